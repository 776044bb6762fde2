"""What does the jobs: the protocol of runners, and one that is a process of this machine."""
