"""Problems with known answers: what each algorithm converges to, exactly, where the data are Gaussian."""
