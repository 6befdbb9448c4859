"""Rewards: finished samples in, one number each out; values that are floors or missing have a reason."""
