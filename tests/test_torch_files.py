"""Hostile files of `torch.save`'s formats. Each attack is shown to be armed: Python's own unpickler falls for it."""

import contextlib
import copyreg
import pickle
import warnings
import zipfile
from dataclasses import asdict
from pathlib import Path

import numpy as np
import pytest
from checkpoint_files import (
    DIMS,
    Raw,
    StoredTensor,
    global_,
    opcodes,
    openai_arrays,
    pickled,
    torch_legacy,
    torch_zip,
    write_torch,
)

from whisperx.checkpoints import load_checkpoint
from whisperx.checkpoints.pytorch import load_torch
from whisperx.errors import CheckpointError


def call(function: str | Raw, *arguments: object) -> Raw:
    """Opcodes that call `function`, a name or what other opcodes leave on the stack."""
    named = Raw(opcodes(global_(function))) if isinstance(function, str) else function
    return Raw(named.opcodes + opcodes(arguments) + b"R")


def armed_pickles(marker: Path) -> dict[str, bytes]:
    """Pickles that create the file `marker` in an unpickler that can call what they name."""
    touch, source = f"touch {marker}", f"open({str(marker)!r}, 'w').close()"
    system = call("os\nsystem", touch)
    file = opcodes(str(marker)) + opcodes("w")
    lazy_call = (global_("os\nsystem"), [touch])
    map_class, map_arguments = opcodes(global_("builtins\nmap")), opcodes(lazy_call)
    partial = call("functools\npartial", global_("os\nsystem"))
    partial_state = opcodes((global_("os\nsystem"), (touch,), {}, {}))
    code = call("builtins\ncompile", source, "a", "exec")
    return {
        "os.system": pickled(system),
        "posix.system, protocol 0": b"cposix\nsystem\n(S'" + touch.encode() + b"'\ntR.",
        "os.system, protocol 4 with a frame": pickle.dumps(CallsSystem(touch), 4),
        "builtins.eval": pickled(call("builtins\neval", source)),
        "builtins.exec": pickled(call("builtins\nexec", source)),
        "__builtin__.eval of Python 2": pickled(call("__builtin__\neval", source)),
        "builtins.open": pickled(call("builtins\nopen", str(marker), "w")),
        "subprocess.check_call": pickled(call("subprocess\ncheck_call", ["touch", str(marker)])),
        "timeit.timeit": pickled(call("timeit\ntimeit", source, "pass", global_("time\ntime"), 1)),
        "runpy._run_code": pickled(call("runpy\n_run_code", code, {})),
        "a chain of getattr": pickled(
            call(call("builtins\ngetattr", call("builtins\n__import__", "os"), "system"), touch)
        ),
        "operator.methodcaller": pickled(
            call(call("operator\nmethodcaller", "touch"), call("pathlib\nPath", str(marker)))
        ),
        "a lazy map that a container consumes": pickled(
            call("collections\nOrderedDict", call("builtins\nmap", global_("os\nsystem"), [touch]))
        ),
        "a call in the arguments of an allowed one": pickled(call("collections\nOrderedDict", [("x", system)])),
        "a call among the values": pickled({"dims": {}, "model_state_dict": {"x": system}}),
        "a call among the keys": pickled(Raw(b"}" + system.opcodes + b"Ns")),
        "a call whose result is popped": pickled(Raw(system.opcodes + b"0}")),
        "a call in the state of an allowed object": pickled(
            Raw(call("collections\nOrderedDict").opcodes + opcodes({"x": system}) + b"b")
        ),
        "NEWOBJ": pickled(call("collections\nOrderedDict", Raw(map_class + map_arguments + b"\x81"))),
        "NEWOBJ_EX": pickled(call("collections\nOrderedDict", Raw(map_class + map_arguments + b"}\x92"))),
        "copyreg.__newobj__": pickled(
            call("collections\nOrderedDict", call("copyreg\n__newobj__", Raw(map_class), *lazy_call))
        ),
        "INST": b"(" + file + b"i_io\nFileIO\n.",
        "OBJ": b"(" + opcodes(global_("_io\nFileIO")) + file + b"o.",
        "a dotted name": b"\x80\x04" + opcodes("pathlib") + opcodes("os.system") + b"\x93" + opcodes((touch,)) + b"R.",
        "a dotted name in an allowed module": (
            b"\x80\x04" + opcodes("collections") + opcodes("_sys.modules.get") + b"\x93" + opcodes(("os",)) + b"R0"
            + system.opcodes + b"."
        ),
        "BUILD by __setstate__": pickled(Raw(partial.opcodes + partial_state + b"b)R")),
        "an extension code": b"\x80\x02\x82\xf0" + opcodes((touch,)) + b"R.",
        "a pickle within a pickle": pickled(
            call("pickle\nloads", call("_codecs\nencode", pickled(system).decode("latin-1"), "latin-1"))
        ),
    }  # fmt: skip


class CallsSystem:
    def __init__(self, command: str) -> None:
        self.command = command

    def __reduce__(self) -> tuple[object, ...]:
        import os

        return os.system, (self.command,)


@pytest.fixture
def extension_code():
    copyreg.add_extension("os", "system", 0xF0)
    yield
    copyreg.remove_extension("os", "system", 0xF0)
    copyreg.clear_extension_cache()


@pytest.mark.parametrize("attack", armed_pickles(Path("marker")))
def test_an_armed_pickle_runs_nothing(attack, tmp_path, extension_code):
    marker = tmp_path / "marker"
    program = armed_pickles(marker)[attack]
    with contextlib.suppress(Exception), warnings.catch_warnings():
        warnings.simplefilter("ignore", ResourceWarning)  # some leave the marker open
        pickle.loads(program)
    assert marker.exists(), "the attack is not armed, so it proves nothing"
    marker.unlink()

    torch_zip(tmp_path / "model.pt", program, {})
    torch_legacy(tmp_path / "old.pt", program, {}, {})
    (tmp_path / "hf").mkdir()
    torch_zip(tmp_path / "hf" / "pytorch_model.bin", program, {})
    for path in (tmp_path / "model.pt", tmp_path / "old.pt", tmp_path / "hf"):
        with pytest.raises(CheckpointError, match="broken or unsafe pickle"):
            load_checkpoint(path)
    assert not marker.exists()


def test_each_pickle_of_the_old_format_is_guarded(tmp_path):
    marker = tmp_path / "marker"
    attack = armed_pickles(marker)["os.system"]
    magic = pickled(Raw(b"\x8a\x0a" + 0x1950A86A20F9469CFC6C.to_bytes(10, "little")))
    honest = [magic, pickled(1001), pickled({"little_endian": True}), pickled({}), pickled([])]
    (tmp_path / "honest.pt").write_bytes(b"".join(honest))
    assert load_torch(tmp_path / "honest.pt") == {}
    for position in range(1, 5):
        path = tmp_path / f"{position}.pt"
        path.write_bytes(b"".join([*honest[:position], attack, *honest[position + 1 :]]))
        with pytest.raises(CheckpointError, match="it calls 'os system'"):
            load_torch(path)
    assert not marker.exists()


def bombs() -> dict[str, bytes]:
    """Pickles that take time or memory without end in an unpickler that believes them."""
    pairs = opcodes("x") + b"".join(b"q" + bytes([i]) + b"h" + bytes([i]) + b"\x86" for i in range(100))
    return {
        "a memo index of 4 billion": pickled(Raw(b"}r\xff\xff\xff\xff")),
        "a string of 2**60 bytes": pickled(Raw(b"\x8d" + (2**60).to_bytes(8, "little") + b"x")),
        "a bytearray of 2**60 bytes": pickled(Raw(b"\x96" + (2**60).to_bytes(8, "little") + b"x")),
        "a frame of 2**60 bytes": b"\x80\x04\x95" + (2**60).to_bytes(8, "little") + b"}.",
        "a number of a million digits": b"L" + b"9" * 1_000_000 + b"L\n.",
        "a key whose hash takes 2**100 steps": pickled(Raw(b"}" + pairs + b"Ns")),
        "a size whose text is 2**100 long": pickled(
            {"x": StoredTensor("0", "FloatStorage", 1, 0, Raw(pairs), ()).opcodes(False)}
        ),
        "a global whose name is 2**100 long": pickled(Raw(pairs + pairs + b"\x93")),
        "nesting": pickled(Raw(b"(" * 100_000)),
        "an empty stack": pickled(Raw(b"0")),
        "no end": b"\x80\x02}",
        "nothing": b"",
        "a memo that was never set": pickled(Raw(b"h\x05")),
        "a list that holds itself": pickled(Raw(b"]q\x00h\x00a")),
        "opcodes that do not exist": b"\x80\x02\xff.",
        "a mark left behind": pickled(Raw(b"}(")),
        "items of no dict": pickled(Raw(b"N" + opcodes("x") + b"Ns")),
        "items for no list": pickled(Raw(b"}(Ne")),
        "an odd number of items": pickled(Raw(b"}(" + opcodes("x") + b"u")),
        "a storage of an unknown type": pickled(Raw(opcodes(("storage", global_("os\nsystem"), "0", "cpu", 1)) + b"Q")),
        "a persistent id that is no tuple": pickled(Raw(opcodes("storage") + b"Q")),
        "a module and its source": pickled(Raw(opcodes(("module", global_("os\nsystem"), "f", "source")) + b"Q")),
    }


@pytest.mark.parametrize("bomb", bombs())
def test_a_pickle_that_makes_no_sense_raises_at_once(bomb, tmp_path):
    torch_zip(tmp_path / "model.pt", bombs()[bomb], {"0": bytes(64)})
    with pytest.raises(CheckpointError):
        load_checkpoint(tmp_path / "model.pt")


def test_items_given_to_an_ordered_dict_are_not_lost(tmp_path):
    torch_zip(tmp_path / "model.pt", pickled({"dims": call("collections\nOrderedDict", [("n_mels", 8)])}), {})
    with pytest.raises(CheckpointError, match="it calls 'collections OrderedDict'"):
        load_torch(tmp_path / "model.pt")


def test_names_made_of_long_strings_raise_before_they_fill_memory(tmp_path):
    """Five bytes in the file for each name of two megabytes, since the memo has the string."""
    program = opcodes("n" * 1_000_000) + b"q\x00" + b"h\x00h\x00\x93" * 100
    torch_zip(tmp_path / "model.pt", pickled(Raw(program)), {})
    with pytest.raises(CheckpointError, match="a name of 2000001 characters"):
        load_torch(tmp_path / "model.pt")


def test_a_pickle_larger_than_any_state_dict_is_not_read(tmp_path):
    torch_zip(tmp_path / "model.pt", b"\x80\x02" + b"N0" * (9 << 20) + b"}.", {})
    with pytest.raises(CheckpointError, match="broken or unsafe pickle"):
        load_torch(tmp_path / "model.pt")


@pytest.mark.parametrize(
    ("n_items", "offset", "size", "stride"),
    [
        (12, 0, (13,), (1,)),
        (12, 1, (12,), (1,)),
        (12, 13, (1,), (1,)),
        (12, -1, (2,), (1,)),
        (12, 0, (3, 4), (5, 1)),
        (12, 0, (-1,), (1,)),
        (12, 11, (2,), (-1,)),
        (12, 0, (1_000_000_000_000,), (0,)),
        (12, 0, (13,), (0,)),
        (12, 0, (2**62, 2**62), (1, 1)),
        (12, 0, (3, 4), (4,)),
        (12, 0, (True, 4), (4, 1)),
        (12, 0, (2.0,), (1,)),
        (-1, 0, (1,), (1,)),
        (13, 0, (13,), (1,)),  # the storage in the file has only 12
        (2**60, 0, (1,), (1,)),
        (12, 0, (1,) * 65, (1,) * 65),  # NumPy has at most 64 axes
        (12, 0, (0, 2**62, 2**62), (1, 1, 1)),  # nor a shape like this, though it is empty
    ],
)
@pytest.mark.parametrize("legacy", [False, True], ids=["zip", "legacy"])
def test_a_tensor_outside_its_storage_raises(n_items, offset, size, stride, legacy, tmp_path):
    size = Raw(b"G?\xf0\x00\x00\x00\x00\x00\x00\x85") if size == (2.0,) else size
    program = pickled({"x": StoredTensor("0", "FloatStorage", n_items, offset, size, stride).opcodes(legacy)})
    numbers = np.arange(12, dtype=np.float32).tobytes()
    if legacy:
        torch_legacy(tmp_path / "model.pt", program, {"0": numbers}, {"0": 12})
    else:
        torch_zip(tmp_path / "model.pt", program, {"0": numbers})
    with pytest.raises(CheckpointError):
        load_torch(tmp_path / "model.pt")["x"].read()


def test_a_storage_that_is_missing_or_compressed_raises(tmp_path):
    program = pickled({"x": StoredTensor("0", "FloatStorage", 3, 0, (3,), (1,)).opcodes(False)})
    torch_zip(tmp_path / "missing.pt", program, {})
    with zipfile.ZipFile(tmp_path / "packed.pt", "w") as archive:
        archive.writestr("archive/data.pkl", program)
        archive.writestr("archive/data/0", bytes(12), zipfile.ZIP_DEFLATED)
    for name in ("missing.pt", "packed.pt"):
        with pytest.raises(CheckpointError, match="data/0 is missing or compressed"):
            load_torch(tmp_path / name)["x"].read()


def test_a_zip_of_something_else_raises(tmp_path):
    with zipfile.ZipFile(tmp_path / "model.pt", "w") as archive:
        archive.writestr("readme.txt", b"text")
    with pytest.raises(CheckpointError, match=r"without the data.pkl"):
        load_torch(tmp_path / "model.pt")


@pytest.mark.parametrize("root", [[], 3, None, "text", {"model_state_dict": 3}])
def test_a_pickle_that_holds_no_state_dict_raises(root, tmp_path):
    torch_zip(tmp_path / "model.pt", pickled(root), {})
    with pytest.raises(CheckpointError, match="expected a dict of tensors"):
        load_checkpoint(tmp_path / "model.pt")


@pytest.mark.parametrize("dims", [3, {"n_mels": "8"}, {"n_mels": None, "n_vocab": [2]}, {}])
def test_dimensions_that_are_no_numbers_are_taken_from_the_shapes(dims, tmp_path):
    arrays = openai_arrays()
    write_torch(tmp_path / "model.pt", arrays, dims=dims)
    assert load_checkpoint(tmp_path / "model.pt").dims == DIMS


def test_dimensions_that_differ_from_the_shapes_raise(tmp_path):
    write_torch(tmp_path / "model.pt", openai_arrays(), dims=asdict(DIMS) | {"n_text_layer": 4})
    with pytest.raises(CheckpointError, match="says n_text_layer 4, the weights 3"):
        load_checkpoint(tmp_path / "model.pt")
