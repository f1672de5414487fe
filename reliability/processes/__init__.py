"""Forks, pools of processes, threads, signals and ends of processes: no hang, no abort, the same bits."""
