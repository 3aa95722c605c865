"""Online reinforcement learning: the policy talks to simulated users and learns from what the judge says of it."""
