"""What a machine tells of itself, read in one way on either side: on a host by an errand, here by the coordinator.

Standard library only, and nothing is started but nvidia-smi where there is a driver.
"""
