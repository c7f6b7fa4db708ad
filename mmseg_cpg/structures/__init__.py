from .boundary_data import pack_boundary, unpack_boundary

__all__ = ['pack_boundary', 'unpack_boundary']
