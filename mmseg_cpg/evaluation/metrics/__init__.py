from .boundary_metric import BoundaryMetric
from .edge_metric import EdgeMetric

__all__ = ['BoundaryMetric', 'EdgeMetric']
