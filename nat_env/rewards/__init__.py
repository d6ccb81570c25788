"""Rewards: functions of final images and conditions. `names.py` lists those that have a name."""
