"""Networks. Each module here may import `mlx.core`, which takes the BLAS that is loaded by then."""

from whisperx.models.blas import preload

preload()
