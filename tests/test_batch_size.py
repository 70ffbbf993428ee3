import pytest

from whisperx.asr import load_model
from whisperx.backends.batch_size import batch_size_for, physical_memory

MB, GB = 10**6, 10**9


@pytest.mark.parametrize(
    ("bytes_per_chunk", "memory", "is_cpu", "expected"),
    [
        (30 * MB, 16 * GB, True, 8),
        (30 * MB, 16 * GB, False, 32),
        (400 * MB, 16 * GB, False, 8),
        (400 * MB, 8 * GB, False, 4),
        (400 * MB, 8 * GB, True, 4),
        (3 * GB, 8 * GB, False, 1),
    ],
)
def test_as_many_chunks_as_help_and_fit_into_a_quarter_of_memory(bytes_per_chunk, memory, is_cpu, expected):
    assert batch_size_for(bytes_per_chunk, memory, is_cpu=is_cpu) == expected


def test_a_small_model_on_a_cpu_takes_all_that_helps(demo_model):
    assert physical_memory() > GB
    pipeline = load_model(demo_model, "cpu", backend="mlx")
    assert pipeline.best_batch_size(pipeline.options) == 8
