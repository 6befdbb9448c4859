"""Problems with known answers: the exact fixed point of each algorithm where the data are Gaussian."""
