"""Layers and signal maths, one idea a file. No system is named here.

One legend of shapes for the whole project: ``B`` batch, ``T`` samples, ``N`` frames, ``M`` enrolment frames,
``K`` codebooks (chosen layers of the encoder), ``V`` vocabulary (clusters of a codebook), ``D`` channels.
"""
