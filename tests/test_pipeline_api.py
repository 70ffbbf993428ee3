"""The pipeline object and the helpers as programs written for WhisperX use them."""

import logging
import sys
import threading
from dataclasses import replace
from types import ModuleType

import numpy as np
import pytest
from test_asr import AUDIO, Echo, load, three_spans

from whisperx.asr import FasterWhisperPipeline
from whisperx.audio import SAMPLE_RATE, as_samples, log_mel_spectrogram, pad_or_trim
from whisperx.errors import AudioError
from whisperx.hub import first_token
from whisperx.schema import DecodingOptions


class FakeTensor:
    """What is used of a torch tensor, which numpy cannot read before it is detached and on the CPU."""

    device = "mps:0"

    def __init__(self, array: np.ndarray, *, ready: bool = False) -> None:
        self.array, self.ready = array, ready

    def detach(self) -> "FakeTensor":
        return self

    def cpu(self) -> "FakeTensor":
        return FakeTensor(self.array, ready=True)

    def numpy(self) -> np.ndarray:
        assert self.ready
        return self.array

    def to(self, device: str) -> "FakeTensor":
        assert device == self.device
        return self

    def __array__(self, *_: object, **__: object) -> np.ndarray:
        raise TypeError("can't convert mps:0 device type tensor to numpy")


@pytest.fixture
def torch(monkeypatch: pytest.MonkeyPatch) -> ModuleType:
    """A module of that name, as loaded by the program that has the tensors."""
    module = ModuleType("torch")
    module.Tensor = FakeTensor  # type: ignore[attr-defined]
    module.from_numpy = FakeTensor  # type: ignore[attr-defined]
    monkeypatch.setitem(sys.modules, "torch", module)
    return module


def test_the_constructor_takes_whisperx_arguments_by_position():
    pipeline = FasterWhisperPipeline(
        Echo(), three_spans, {"chunk_size": 5}, DecodingOptions(), "tokens", -1, "pt", "fr", True, batch_size=3
    )
    assert (pipeline.tokenizer, pipeline.preset_language, pipeline.suppress_numerals) == ("tokens", "fr", True)
    assert (pipeline.device, pipeline._batch_size, pipeline._vad_params) == ("toy", 3, {"chunk_size": 5})
    assert len(pipeline.transcribe(AUDIO)["segments"]) == 3
    assert pipeline.model.batch_sizes == [3]
    assert pipeline.model.options[0].suppress_numerals


def test_subclasses_may_add_what_they_like():
    class Service(FasterWhisperPipeline):
        def __init__(self, *arguments: object) -> None:
            super().__init__(*arguments)
            self.lock = threading.Lock()

    assert Service(Echo(), three_spans, {}, DecodingOptions()).transcribe(AUDIO)["language"] == "de"


def test_options_may_be_exchanged_between_calls():
    pipeline = load(Echo(), language="en")
    pipeline.options = replace(pipeline.options, temperatures=[0.0, 0.5], initial_prompt="Dr Hamm", hotwords="MLX")
    pipeline.suppress_numerals = True
    pipeline.transcribe(AUDIO)
    asked = pipeline.model.options[0]
    assert (asked.initial_prompt, asked.hotwords, asked.suppress_numerals) == ("Dr Hamm", "MLX", True)
    assert tuple(asked.temperatures) == (0.0, 0.5)
    pipeline.suppress_numerals = False
    assert not pipeline.options.suppress_numerals


def test_options_of_a_call_hold_for_it_alone(caplog):
    pipeline = load(Echo(), language="en")
    pipeline.transcribe(AUDIO, initial_prompt="Dr Hamm", temperatures=0.5, beam_width=3)
    pipeline.transcribe(AUDIO)
    first, second = pipeline.model.options
    assert (first.initial_prompt, first.temperatures) == ("Dr Hamm", (0.5,))
    assert second == replace(pipeline.options, language="en")
    assert [r.getMessage() for r in caplog.records if r.levelno == logging.WARNING] == ["beam_width=3 has no effect"]


def test_speech_that_was_found_before_is_not_looked_for_again():
    asked = []

    def vad(audio):
        asked.append(len(audio))
        return three_spans(audio)

    pipeline = load(Echo(), vad=vad, language="en")
    plain = pipeline.transcribe(AUDIO, chunk_size=5)
    chunks = pipeline.find_speech(AUDIO, 5)
    assert pipeline.transcribe(AUDIO, chunks=chunks) == plain
    assert len(asked) == 2


@pytest.mark.parametrize(("batch_size", "is_list"), [(None, True), (0, True), (1, True), (2, False)])
def test_a_pipeline_called_with_chunks_yields_their_texts_in_order(batch_size, is_list):
    pipeline = load(Echo(), language="fr")
    sounds = [np.zeros(n * SAMPLE_RATE, np.float32) for n in (2, 1, 3)]
    results = list(pipeline(({"inputs": sound} for sound in sounds), batch_size=batch_size, num_workers=0))
    texts = [" 2 s", " 1 s", " 3 s"]
    assert [result["text"] for result in results] == ([[text] for text in texts] if is_list else texts)
    assert results[0]["avg_logprob"] == ([-0.5] if is_list else -0.5)
    assert pipeline.model.options[0].language == "fr"


def test_two_threads_get_what_each_gets_alone():
    pipeline = load(Echo())
    calls = [{"language": "fr", "chunk_size": 5, "hotwords": "one"}, {"language": "it", "task": "translate"}]
    alone = [pipeline.transcribe(AUDIO, **call) for call in calls]
    results: dict[int, list[object]] = {0: [], 1: []}

    def work(i: int) -> None:
        results[i] += [pipeline.transcribe(AUDIO, **calls[i]) for _ in range(20)]

    threads = [threading.Thread(target=work, args=(i,)) for i in results]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert results == {i: [alone[i]] * 20 for i in results}


# Sounds as programs have them


@pytest.mark.parametrize("shape", [(32000,), (1, 32000)])
def test_a_torch_tensor_on_any_device_is_a_recording(torch, shape):
    samples = as_samples(FakeTensor(np.full(shape, 0.5)))
    assert (samples.shape, samples.dtype) == ((32000,), np.float32)
    assert load(Echo(), language="en").transcribe(FakeTensor(np.zeros(45 * SAMPLE_RATE)))["segments"]
    assert log_mel_spectrogram(FakeTensor(np.zeros(16000))).shape == (80, 100)


@pytest.mark.parametrize("length", [3, 7])
def test_pad_or_trim_keeps_the_kind_of_array(torch, length):
    expected = pad_or_trim(np.arange(5), length)
    tensor = pad_or_trim(FakeTensor(np.arange(5)), length)
    assert isinstance(tensor, FakeTensor)
    np.testing.assert_array_equal(tensor.array, expected)


@pytest.mark.parametrize("audio", [object(), {"array": [0.0]}, [[0.0], [0.0, 1.0]]], ids=str)
def test_what_is_no_sound_at_all_is_an_audio_error(audio):
    with pytest.raises(AudioError, match="a path or an array of samples was expected"):
        as_samples(audio)


@pytest.mark.parametrize(
    ("tokens", "expected"),
    [((None, None), None), ((True, "hf_a"), "hf_a"), (("hf_a", "hf_b"), "hf_a"), ((False, ""), None)],
)
def test_a_token_is_taken_under_any_of_its_names(tokens, expected):
    assert first_token(*tokens) == expected
