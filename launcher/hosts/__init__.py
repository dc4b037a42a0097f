"""Reach a machine: a byte stream to the agent there. The rest of the coordinator never knows which kind it is."""
