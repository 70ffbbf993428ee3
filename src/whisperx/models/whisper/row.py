"""What every engine that decodes needs to know of a transcript under way. No arrays."""

from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any


@dataclass
class Row:
    """One transcript of one chunk on its way through the decoder."""

    chunk: int
    prompt: tuple[int, ...]
    sot: int
    eot: int
    max_new_tokens: int
    temperature: float = 0.0  # 0: the likeliest token each time
    attempt: int = 0  # which of the temperatures this is
    key: int = 0  # of the random numbers, 32 bits; they depend on it and on the token's place alone
    n_beams: int = 1  # more than one: the best that a beam search finds
    tokens: list[int] = field(default_factory=list)
    sum_logprob: float = 0.0
    no_speech_prob: float = 0.0
    done: bool = False
    cross: Callable[[], list[Any]] = list  # the sound in its slot: once it is done, until another row enters

    @property
    def start(self) -> int:
        """Where in the prompt the transcript starts: what stands before is context."""
        return self.prompt.index(self.sot)

    @property
    def position(self) -> int:
        """Where the newest token stands."""
        return len(self.prompt) + len(self.tokens) - 1

    def accept(self, token: int, logprob: float) -> None:
        if self.done:
            return
        self.sum_logprob += logprob
        if token == self.eot:
            self.done = True
        else:
            self.tokens.append(token)
            self.done = len(self.tokens) == self.max_new_tokens

    @property
    def avg_logprob(self) -> float:
        return self.sum_logprob / (len(self.tokens) + 1)
