"""placeholder, replaced by compiled kernels"""
