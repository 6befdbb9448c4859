"""Rewards: callables that give each finished sample one number, with a reason where it is a floor or missing."""
