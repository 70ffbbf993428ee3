"""Made-up speech for the demo model: sentences of a small domain, spoken by espeak-ng and flite.

Sentences come from templates (appointments, dates, times, phone numbers, short commands), so that a network of three
million parameters can learn to hear them. Everything follows from a seed. Both programs are tools: Debian packages
them (`apt-get install espeak-ng flite`), and nothing at run time needs them.

    python tools/demo_speech.py         write examples/demo.wav and examples/demo.txt
"""

import ctypes
import itertools
import random
import re
import subprocess
import tempfile
import wave
import zlib
from collections.abc import Iterator
from dataclasses import dataclass
from functools import cache, cached_property
from pathlib import Path

import numpy as np

SAMPLE_RATE = 16000

# A name in braces stands for one of the lines of that name. Lines beginning with "3 " count three times.
# fmt: off
GRAMMAR: dict[str, list[str]] = {
    "sentence": [
        "5 {appointment}", "4 {calendar}", "3 {phone}", "4 {command}", "2 {message}", "3 {travel}", "3 {shop}",
        "3 {question}", "2 {short}",
    ],
    "appointment": [
        "Please call me on {day} at {time}.",
        "Please call {person} {when}.",
        "The meeting with {person} is on {date}.",
        "I would like to make an appointment with {person} {when}.",
        "Your appointment is on {day} {date} at {time}.",
        "We will meet {when} at {time}.",
        "Can we meet at {time} instead of {time}?",
        "The {event} has been moved from {day} to {day}.",
        "My next appointment is at {time}.",
        "Doctor {surname} can see you {when} at {time}.",
        "Let us meet in the {place} at {time}.",
        "The {event} takes about {duration}.",
        "There is no {event} {when}.",
    ],
    "calendar": [
        "Today is {day} {date}.",
        "My birthday is on {date}.",
        "The {event} is on {date}.",
        "She was born on {date} in {year}.",
        "We moved to {city} in {year}.",
        "The {place} is closed from {date} to {date}.",
        "The {season} holidays begin on {date}.",
        "It is {time}.",
        "The clock shows {time}.",
        "The {place} opens at {hour} and closes at {hour}.",
    ],
    "phone": [
        "My phone number is {digits3}, {digits4}.",
        "Call {digits3}, {digits3}, {digits4}.",
        "The number of the {place} is {digits3}, {digits4}.",
        "The code is {digits4}.",
        "My new number is {digits4}, {digits3}.",
        "Room {number} is on the {ordinal1} floor.",
        "Add {number} and {number}.",
        "The order number is {digits3}, {digits3}.",
    ],
    "command": [
        "Turn {onoff} the {device}.",
        "Turn {onoff} the {device} in the {room}.",
        "Open the {opening}.",
        "Close the {opening} in the {room}.",
        "Set the {device} to {number} degrees.",
        "Wake me up at {time}.",
        "Play some {music} music in the {room}.",
        "Stop the {device}.",
        "Make it {comparative} in the {room}.",
        "Do not forget to {task} {when}.",
    ],
    "message": [
        "Send a message to {person}.",
        "Tell {person} that I will be late.",
        "Tell {person} that the {event} starts at {time}.",
        "{name} left a message with {person}.",
        "I will {task} {when}.",
        "{name} wants to {task} {when}.",
        "Please write to {person} before {day}.",
    ],
    "travel": [
        "The train to {city} leaves at {time}.",
        "The next bus to {city} leaves in {number} minutes.",
        "The train from {city} is {number} minutes late.",
        "The flight from {city} to {city} takes {duration}.",
        "We arrive in {city} on {day} {daypart}.",
        "A ticket to {city} costs {price}.",
        "Turn {side} at the {place}.",
        "Drive {number} miles and turn {side}.",
        "I need a room in {city} until {day}.",
    ],
    "shop": [
        "I would like {number} {things}, please.",
        "The {things} cost {price}.",
        "We need {things} and {food}.",
        "Bring {number} {things} and some {food}.",
        "Add {food} to the shopping list.",
        "There are {number} {things} on the table.",
        "He bought a {colour} {thing} and some {food}.",
        "She has a {adjective} {colour} {thing}.",
        "Bring me the {colour} {thing}.",
        "A cup of {drink} and {number} {things}, please.",
    ],
    "question": [
        "What time is it in {city}?",
        "When does the {event} start?",
        "Where is the {place}?",
        "Who will {task} {when}?",
        "How much are the {things}?",
        "How far is it to {city}?",
        "Is the {opening} in the {room} open?",
        "Did {person} call {when}?",
        "Are there any {things} in the {room}?",
        "Would you like some {drink} or some {food}?",
        "What is the weather like in {city}?",
        "Which {thing} is {adjective}?",
    ],
    "short": [
        "Yes, please.",
        "No, thank you.",
        "Good {daypart}, {person}.",
        "See you {when}.",
        "Hello, this is {person}.",
        "{day} at {time}.",
        "Come in, {person}.",
        "Wait {duration}.",
        "Happy birthday, {person}.",
        "The {colour} {thing}.",
        "{city}, {date}.",
    ],
    "when": [
        "today", "tomorrow", "tonight", "on {day}", "next {day}", "{day} {daypart}", "this {daypart}", "next week",
        "on {date}", "after lunch", "before dinner", "in {number} minutes", "every {day}",
    ],
    "day": ["Monday", "Tuesday", "Wednesday", "Thursday", "Friday", "Saturday", "Sunday"],
    "daypart": ["morning", "afternoon", "evening"],
    "month": [
        "January", "February", "March", "April", "May", "June", "July", "August", "September", "October", "November",
        "December",
    ],
    "season": ["spring", "summer", "autumn", "winter"],
    "date": ["the {ordinal} of {month}", "{month} {ordinal}"],
    "ordinal": ["3 {ordinal1}", "tenth", "2 twenty {ordinal1}"],
    "ordinal1": ["first", "second", "third", "fourth", "fifth", "sixth", "seventh", "eighth", "ninth"],
    "year": ["nineteen {tens} {unit}", "two thousand and {unit}", "twenty {teen}", "twenty twenty {unit}"],
    "hour": ["one", "two", "three", "four", "five", "six", "seven", "eight", "nine", "ten", "eleven", "twelve"],
    "time": [
        "{hour} thirty", "{hour} fifteen", "{hour} forty five", "half past {hour}", "quarter past {hour}",
        "quarter to {hour}", "{minutes} past {hour}", "{hour} {minutes}", "noon", "midnight",
    ],
    "minutes": ["ten", "twenty", "twenty five", "forty", "fifty"],
    "unit": ["one", "two", "three", "four", "five", "six", "seven", "eight", "nine"],
    "teen": [
        "ten", "eleven", "twelve", "thirteen", "fourteen", "fifteen", "sixteen", "seventeen", "eighteen", "nineteen",
    ],
    "tens": ["twenty", "thirty", "forty", "fifty", "sixty", "seventy", "eighty", "ninety"],
    "number": [
        "2 {unit}", "2 {teen}", "{tens}", "2 {tens} {unit}", "{unit} hundred", "{unit} hundred and {tens} {unit}",
    ],
    "digit": ["zero", "one", "two", "three", "four", "five", "six", "seven", "eight", "nine"],
    "digits3": ["{digit} {digit} {digit}"],
    "digits4": ["{digit} {digit} {digit} {digit}"],
    "duration": ["{number} minutes", "{number} seconds", "half an hour", "{unit} days", "two weeks"],
    "price": ["{number} dollars", "{number} pounds", "{number} dollars and {tens} cents", "{unit} euros"],
    "person": ["4 {name}", "Mister {surname}", "Doctor {surname}", "my mother", "my brother"],
    "name": [
        "Anna", "Peter", "Maria", "David", "Laura", "Thomas", "Julia", "Martin", "Sarah", "Robert", "Emma", "Oliver",
    ],
    "surname": ["Miller", "Baker", "Taylor", "Johnson", "Fisher", "Cooper", "Parker", "Morgan"],
    "city": [
        "London", "Paris", "Berlin", "Rome", "Madrid", "Vienna", "Boston", "Chicago", "Dublin", "Oxford", "Denver",
        "Athens",
    ],
    "place": [
        "office", "library", "station", "hotel", "museum", "school", "hospital", "market", "restaurant", "bank",
        "airport", "church", "bridge", "garden",
    ],
    "room": ["kitchen", "bedroom", "bathroom", "living room", "hall", "office"],
    "event": ["meeting", "concert", "lesson", "party", "interview", "wedding", "conference", "football game", "exam"],
    "device": ["light", "radio", "heating", "television", "fan", "oven", "alarm", "lamp", "computer"],
    "opening": ["door", "window", "gate", "garage", "curtain"],
    "onoff": ["on", "off"],
    "comparative": ["warmer", "colder", "brighter", "darker", "louder"],
    "side": ["left", "right"],
    "task": [
        "water the plants", "feed the cat", "walk the dog", "call {person}", "pay the bill", "clean the {room}",
        "wash the car", "read the book", "cook dinner", "fix the {device}", "check the mail", "send the letter",
        "sign the contract", "take the medicine",
    ],
    "music": ["classical", "quiet", "jazz", "dance", "piano"],
    "thing": ["chair", "table", "shirt", "jacket", "box", "letter", "umbrella", "bag", "basket", "ladder"],
    "things": [
        "apples", "oranges", "tickets", "bottles", "keys", "pictures", "eggs", "candles", "pencils", "potatoes",
        "sandwiches", "stamps",
    ],
    "food": ["bread", "butter", "cheese", "rice", "sugar", "fruit", "soup", "salad", "chicken", "fish", "chocolate"],
    "drink": ["coffee", "tea", "water", "milk", "orange juice", "lemonade"],
    "colour": ["red", "blue", "green", "yellow", "black", "white", "brown", "purple", "grey"],
    "adjective": ["big", "small", "heavy", "old", "new", "cheap", "expensive", "beautiful", "broken", "empty", "wide"],
}
# fmt: on

# Words that sound like another word of the domain: only their sentence tells them apart, so they stay out of salads.
HOMOPHONES = frozenset(["to", "two", "right", "write"])


def _choices(name: str) -> tuple[list[str], list[int]]:
    weighted = [re.match(r"(?:(\d) )?(.+)", line) for line in GRAMMAR[name]]
    return [m[2] for m in weighted if m], [int(m[1] or 1) for m in weighted if m]


_CHOICES = {name: _choices(name) for name in GRAMMAR}


def _expand(line: str, rng: random.Random) -> str:
    def replacement(match: re.Match[str]) -> str:
        lines, weights = _CHOICES[match[1]]
        return _expand(rng.choices(lines, weights)[0], rng)

    return re.sub(r"\{(\w+)\}", replacement, line)


def sentence(rng: random.Random) -> str:
    """One sentence of the domain: capital first letter, final period or question mark."""
    text = _expand("{sentence}", rng)
    return text[0].upper() + text[1:]


def vocabulary() -> list[str]:
    """Every word that a sentence can have, as it is written in mid-sentence. Sorted."""
    lines = (line for name in GRAMMAR for line in _CHOICES[name][0])
    return sorted({word for line in lines for word in re.findall(r"(?<![{\w])[\w']+(?![\w}])", line)})


def word_salad(rng: random.Random) -> str:
    """Two to seven words in no order: text that can only be known by listening."""
    return " ".join([rng.choice(_FIRST_WORDS), *rng.choices(_SALAD_WORDS, k=rng.randint(1, 6))]) + "."


def _first_words() -> list[str]:
    """The words that templates begin with, whose capital letters are no part of a name."""
    lines = (line for line in itertools.chain(*GRAMMAR.values()) if line[-1] in ".?")
    return sorted({word for line in lines if (word := re.sub(r"^\d ", "", line).split()[0].strip(","))[0] != "{"})


_FIRST_WORDS = _first_words()
_SALAD_WORDS = [word for word in vocabulary() if word.lower() not in HOMOPHONES and word not in _FIRST_WORDS]


def is_held_out(text: str) -> bool:
    """Whether this sentence is kept from training: a property of its letters, so that no list must be kept."""
    return zlib.crc32(text.encode()) % 16 == 0


@dataclass(frozen=True)
class Voice:
    """A synthesiser's voice and how it speaks."""

    program: str  # "flite" or "espeak-ng"
    name: str  # "slt", "en-us+f3"
    speed: float = 1.0  # > 1 is faster; set in the synthesiser, the pitch stays
    pitch: int = 50  # espeak-ng only, 0 to 99
    resampling: float = 1.0  # > 1 is faster and higher, as a tape would be


FLITE_VOICES = ("slt", "awb", "kal16")
FLITE_HELD_OUT = Voice("flite", "rms")  # never heard in training
ESPEAK_VOICES = (
    *("en-us+m1", "en-us+m3", "en-us+m7", "en-us+f1", "en-us+f3", "en-us+f4", "en-us+Andrea", "en-us+belinda"),
    *("en-us+steph", "en-gb+m1", "en-gb+m3", "en-gb+f2"),
)
ESPEAK_HELD_OUT = Voice("espeak-ng", "en-us+linda")  # never heard in training


def random_voice(rng: random.Random) -> Voice:
    """A voice for training: half flite, whose voices are few; half espeak-ng."""
    resampling = rng.uniform(0.95, 1.05)
    if rng.random() < 0.5:
        return Voice("flite", rng.choice(FLITE_VOICES), speed=rng.uniform(0.9, 1.15), resampling=resampling)
    name = rng.choice(ESPEAK_VOICES)
    return Voice("espeak-ng", name, speed=rng.uniform(0.85, 1.05), pitch=rng.randint(38, 62), resampling=resampling)


def known_voice(rng: random.Random) -> Voice:
    """A voice heard in training, as it is, for tests and the demo recording."""
    if rng.random() < 0.5:
        return Voice("flite", rng.choice(FLITE_VOICES))
    return Voice("espeak-ng", rng.choice(ESPEAK_VOICES), speed=0.95)


@dataclass(frozen=True)
class Speech:
    """Spoken text: float32 samples `(n_samples,)` at 16 kHz, peak 0.6, with at most 50 ms of silence at both ends.

    `phones` are the synthesiser's own names of its sounds, each with the second in which it begins.
    """

    audio: np.ndarray
    phones: list[tuple[str, float]]
    text: str
    voice: Voice

    @cached_property
    def sounds(self) -> list[tuple[str, float, int]]:
        """The phones, each with the number of the word that it belongs to; -1 is silence."""
        numbers = _word_numbers([name for name, _ in self.phones], self.text, self.voice)
        return [(name, start, number) for (name, start), number in zip(self.phones, numbers, strict=True)]


def synthesize(text: str, voice: Voice) -> Speech:
    """Let `voice` say `text`.

    Raises FileNotFoundError or OSError where the program is not installed, CalledProcessError where flite fails.
    """
    speak = _speak_flite if voice.program == "flite" else _speak_espeak
    samples, rate, phones = speak(text, voice)
    first, last = _bounds(samples, rate)
    speech = _resample(samples[first:last], SAMPLE_RATE / (rate * voice.resampling))
    speech = (0.6 / max(float(np.abs(speech).max()), 1e-4) * speech).astype(np.float32)
    return Speech(speech, [(name, (start - first / rate) / voice.resampling) for name, start in phones], text, voice)


def words(text: str) -> list[str]:
    """The words of a text in small letters, without its punctuation."""
    return re.findall(r"[a-z']+", text.lower())


SILENT_PHONES = frozenset(["flite pau", "espeak _", "espeak _:", "espeak _::"])


def _word_numbers(phones: list[str], text: str, voice: Voice) -> list[int]:
    """For each phone the number of its word, -1 in silence: found by letting the voice say each word alone."""
    speaker = "kal16" if voice.program == "flite" else voice.name.split("+")[0]  # which does not change the phones
    expected = [(p, i) for i, word in enumerate(words(text)) for p in _pronunciation(voice.program, speaker, word)]
    spoken = [i for i, phone in enumerate(phones) if phone not in SILENT_PHONES]
    numbers = [-1] * len(phones)
    for i, j in zip(spoken, matches([phones[i] for i in spoken], [phone for phone, _ in expected]), strict=True):
        numbers[i] = expected[j][1]
    return numbers


def matches(spoken: list[str], expected: list[str]) -> list[int]:
    """For each of `spoken` the index of what it stands for in `expected`, by the cheapest way through both lines."""
    rows = [[(2 * j, "skip") for j in range(len(expected) + 1)]]
    for i, phone in enumerate(spoken, 1):
        row = [(2 * i, "more")]
        for j, other in enumerate(expected, 1):
            # One sound in another's place costs 3, one too few or too many 2.
            together = rows[-1][j - 1][0] + 3 * (phone != other)
            row.append(min((together, "both"), (row[-1][0] + 2, "skip"), (rows[-1][j][0] + 2, "more")))
        rows.append(row)
    found: list[int] = []
    j = len(expected)
    while len(found) < len(spoken):
        step = rows[len(spoken) - len(found)][j][1]
        if step != "more":
            j -= 1
        if step != "skip":
            found.append(min(j, len(expected) - 1))
    return found[::-1]


@cache
def _pronunciation(program: str, speaker: str, word: str) -> list[str]:
    speak = _speak_flite if program == "flite" else _speak_espeak
    return [phone for phone, _ in speak(word, Voice(program, speaker))[2] if phone not in SILENT_PHONES]


_Spoken = tuple[np.ndarray, int, list[tuple[str, float]]]  # samples, their rate, phones


def _speak_flite(text: str, voice: Voice) -> _Spoken:
    stretch = f"duration_stretch={1 / voice.speed:.3f}"
    with tempfile.NamedTemporaryFile(suffix=".wav") as file:
        command = ["flite", "-voice", voice.name, "--setf", stretch, "-psdur", "-t", text, "-o", file.name]
        printed = subprocess.run(command, check=True, capture_output=True, text=True).stdout
        with wave.open(file.name) as recording:
            rate = recording.getframerate()
            samples = np.frombuffer(recording.readframes(recording.getnframes()), "<i2").astype(np.float32) / 32768
    phones, start = [], 0.0
    for item in printed.split():  # "k:0.326": the name, and where it ends
        name, end = item.split(":")
        phones.append((f"flite {name}", start))
        start = float(end)
    return samples, rate, phones


class _EspeakEvent(ctypes.Structure):
    """espeak_EVENT of speak_lib.h."""

    _fields_ = (
        ("type", ctypes.c_int),
        ("unique_identifier", ctypes.c_uint),
        ("text_position", ctypes.c_int),
        ("length", ctypes.c_int),
        ("audio_position", ctypes.c_int),  # ms
        ("sample", ctypes.c_int),
        ("user_data", ctypes.c_void_p),
        ("name", ctypes.c_char * 8),
    )


_EspeakCallback = ctypes.CFUNCTYPE(
    ctypes.c_int, ctypes.POINTER(ctypes.c_short), ctypes.c_int, ctypes.POINTER(_EspeakEvent)
)
_ESPEAK_RATE, _ESPEAK_PITCH = 1, 3
_ESPEAK_END, _ESPEAK_PHONEME = 0, 7


@cache
def _espeak() -> tuple[ctypes.CDLL, int]:
    """The library and its sample rate. The program of the same name does not tell when a sound begins."""
    library = ctypes.CDLL("libespeak-ng.so.1")
    synchronous, with_phonemes = 2, 1
    return library, library.espeak_Initialize(synchronous, 1000, None, with_phonemes)


def _speak_espeak(text: str, voice: Voice) -> _Spoken:
    library, rate = _espeak()
    pieces: list[np.ndarray] = []
    phones: list[tuple[str, float]] = []

    def receive(samples: "ctypes._Pointer[ctypes.c_short]", n: int, events: "ctypes._Pointer[_EspeakEvent]") -> int:
        if samples and n > 0:
            pieces.append(np.ctypeslib.as_array(samples, (n,)).astype(np.float32) / 32768)
        for i in itertools.count():
            if events[i].type == _ESPEAK_END:
                break
            if events[i].type == _ESPEAK_PHONEME:
                phones.append((f"espeak {events[i].name.decode()}", events[i].audio_position / 1000))
        return 0

    callback = _EspeakCallback(receive)
    library.espeak_SetSynthCallback(callback)
    library.espeak_SetVoiceByName(voice.name.encode())
    library.espeak_SetParameter(_ESPEAK_RATE, round(165 * voice.speed), 0)
    library.espeak_SetParameter(_ESPEAK_PITCH, voice.pitch, 0)
    data = text.encode() + b"\0"
    library.espeak_Synth(data, ctypes.c_size_t(len(data)), 0, 1, 0, 1, None, None)
    library.espeak_Synchronize()
    return np.concatenate(pieces), rate, phones


def _bounds(samples: np.ndarray, rate: int) -> tuple[int, int]:
    """First and last sample but for the silence at both ends; a hundredth of the peak is silence, 50 ms of it stay."""
    loud = np.flatnonzero(np.abs(samples) > 0.01 * np.abs(samples).max())
    margin = rate // 20
    return max(int(loud[0]) - margin, 0), min(int(loud[-1]) + margin, len(samples))


def _resample(samples: np.ndarray, ratio: float) -> np.ndarray:
    """By cutting or padding the spectrum; the padding to whole thousands keeps the transform fast."""
    n_in = -(-len(samples) // 1000) * 1000
    n_out = round(n_in * ratio)
    n_out += n_out % 2
    spectrum = np.fft.rfft(samples, n_in)
    resampled = np.fft.irfft(spectrum[: n_out // 2 + 1], n_out) * (n_out / n_in)
    return resampled[: round(len(samples) * ratio)]


@dataclass(frozen=True)
class Utterance:
    text: str
    voice: Voice


def training_utterances(seed: int, n: int) -> Iterator[Utterance]:
    """`n` sentences, one in five a word salad, none of them held out."""
    rng = random.Random(seed)  # noqa: S311 - nothing secret
    while n > 0:
        text = word_salad(rng) if rng.random() < 0.2 else sentence(rng)
        if not is_held_out(text):
            yield Utterance(text, random_voice(rng))
            n -= 1


def held_out_sentences(seed: int, n: int) -> list[str]:
    """`n` different sentences that `training_utterances` never yields."""
    rng = random.Random(seed)  # noqa: S311 - nothing secret
    texts: dict[str, None] = {}
    while len(texts) < n:
        text = sentence(rng)
        if is_held_out(text):
            texts[text] = None
    return list(texts)


_SLT, _AWB, _KAL = Voice("flite", "slt"), Voice("flite", "awb"), Voice("flite", "kal16")
_US_WOMAN, _US_MAN = Voice("espeak-ng", "en-us+f3", speed=0.95), Voice("espeak-ng", "en-us+m3", speed=0.95)
_GB_MAN = Voice("espeak-ng", "en-gb+m1", speed=0.95)

# The demo recording: who says what, and the pause that follows in seconds.
DEMO: tuple[tuple[Voice, str, float], ...] = (
    (_SLT, "My birthday is on the fourth of May.", 0.7),
    (_AWB, "The train to Chicago leaves at midnight.", 1.0),
    (_US_WOMAN, "Let us meet in the library at quarter to two.", 0.6),
    (_KAL, "There are fifty nine potatoes on the table.", 1.9),
    (_SLT, "We arrive in Madrid on Wednesday afternoon.", 0.9),
    (_US_MAN, "Would you like some orange juice or some rice?", 0.5),
    (_AWB, "The order number is two eight seven, two zero five.", 1.2),
    (_US_WOMAN, "Tell my brother that I will be late.", 1.5),
    (_KAL, "He bought a black table and some chicken.", 0.8),
    (_SLT, "Can we meet at half past one instead of twelve forty five?", 2.2),
    (_GB_MAN, "Oliver wants to pay the bill next Sunday.", 0.7),
    (_AWB, "The football game is on the twenty fourth of March.", 1.1),
    (_US_MAN, "Close the curtain in the living room.", 0.6),
    (_SLT, "Drive five hundred miles and turn left.", 1.0),
    (_US_WOMAN, "We will meet tomorrow at quarter to nine.", 0.8),
    (_KAL, "Are there any bottles in the kitchen?", 0.7),
    (_AWB, "The concert is on the sixth of September.", 1.3),
    (_GB_MAN, "The code is five nine two eight.", 0.6),
    (_SLT, "Add sugar to the shopping list.", 0.9),
    (_US_MAN, "Set the heating to ninety degrees.", 0.5),
)


def write_demo(folder: Path) -> None:
    """Write `demo.wav`, the recording of `DEMO`, and `demo.txt`, its sentences one a line."""
    pieces = [np.zeros(SAMPLE_RATE // 2, np.float32)]
    for voice, text, pause in DEMO:
        pieces += [synthesize(text, voice).audio, np.zeros(round(pause * SAMPLE_RATE), np.float32)]
    samples = np.rint(np.concatenate(pieces) * 32767).astype("<i2")
    with wave.open(str(folder / "demo.wav"), "wb") as file:
        file.setnchannels(1)
        file.setsampwidth(2)
        file.setframerate(SAMPLE_RATE)
        file.writeframes(samples.tobytes())
    (folder / "demo.txt").write_text("".join(f"{text}\n" for _, text, _ in DEMO))


if __name__ == "__main__":
    write_demo(Path(__file__).parents[1] / "examples")
