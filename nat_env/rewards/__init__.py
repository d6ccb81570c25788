"""Rewards: functions of final images and conditions."""
