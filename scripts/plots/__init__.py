"""The plots in the documentation, each drawn from a run against the emulator.

``python -m scripts.plots`` draws them all into ``docs/plots/``; ``python -m scripts.plots retries``
draws one. Every module here has a ``draw(path)`` that runs, draws and saves one plot.
"""
