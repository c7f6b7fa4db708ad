from .cpu_runner import CPURunner, shut_down_distributed

__all__ = ['CPURunner', 'shut_down_distributed']
