"""Loading and stepping a model file, and refusing what is none, each in one line."""

from __future__ import annotations

import subprocess
import sys
import warnings
import zipfile
from pathlib import Path

import numpy as np
import pytest
import torch
from torch import Tensor, nn

from streamfuse.errors import BackendError, ModelError, StageError
from streamfuse.model import torchscript
from streamfuse.model.export import export_model, write_model
from streamfuse.model.inspect import inspect_model
from streamfuse.model.network import Stepper
from streamfuse.model.runtime import Model, load_model
from streamfuse.model.spec import SPEC_FILE, HeadSpec, ModelSpec, StateSpec, VideoSpec
from tests.model.networks import HEADS, random_network, small_spec


@pytest.fixture(scope="module")
def good(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("model") / "good.ts"
    spec = small_spec()
    export_model(random_network(spec), spec, path)
    return path


@pytest.fixture
def model(good: Path) -> Model:
    return load_model(good, device="cpu")


class Foreign(nn.Module):
    """Somebody's own program: answers `classes` logits, carries one tensor, breaks one thing."""

    def __init__(self, classes: int = 2, state: int = 3, broken: str = "") -> None:
        super().__init__()
        self.classes, self.state, self.broken = classes, state, broken

    @torch.jit.export
    def init_state(self, batch: int) -> list[Tensor]:
        return [torch.zeros(batch, self.state)]

    def forward(
        self, video: Tensor, audio: Tensor, present: Tensor, state: list[Tensor]
    ) -> tuple[list[Tensor], list[Tensor]]:
        level = video.mean() + audio.mean()
        logits = (torch.ones(present.size(0), self.classes) * level, [state[0] + 1])
        if self.broken == "nan":
            return [logits[0] / 0 - logits[0] / 0], logits[1]
        if self.broken == "double":
            return [logits[0].double()], logits[1]
        if self.broken == "grows":
            return [logits[0]], [torch.cat([state[0], state[0]], 1)]
        if self.broken == "raises":
            return [logits[0] @ torch.ones(7, 7)], logits[1]
        return [logits[0]], logits[1]


FOREIGN = ModelSpec(name="own", heads=(HEADS[0],), state=(StateSpec("sum", (1, 3)),))


def foreign(path: Path, module: nn.Module, spec: ModelSpec) -> Path:
    write_model(torchscript.dump(torchscript.script(module.eval()), {SPEC_FILE: spec.to_json()}), path)
    return path


def refusal(path: Path | str, **options: object) -> str:
    with pytest.raises(ModelError) as caught:
        load_model(path, device="cpu", **options)
    text = str(caught.value)
    assert "\n" not in text and len(text) < 600
    assert str(path) in text
    return text


def test_missing_file(tmp_path: Path) -> None:
    assert "a model must be a file, got nothing there" in refusal(tmp_path / "no.ts")


def test_folder(tmp_path: Path) -> None:
    assert "a model must be a file, got a folder" in refusal(tmp_path)


def test_empty_file(tmp_path: Path) -> None:
    (tmp_path / "m.ts").touch()
    assert "must not be empty, got 0 bytes" in refusal(tmp_path / "m.ts")


def test_text(tmp_path: Path) -> None:
    (tmp_path / "m.ts").write_text("not a model\n" * 100)
    assert "must be a TorchScript archive, got no zip" in refusal(tmp_path / "m.ts")


@pytest.mark.parametrize("share", [0.01, 0.5, 0.999])
def test_truncated_file(tmp_path: Path, good: Path, share: float) -> None:
    data = good.read_bytes()
    (tmp_path / "m.ts").write_bytes(data[: int(len(data) * share)])
    assert "a model file must be whole" in refusal(tmp_path / "m.ts")


def test_one_flipped_bit(tmp_path: Path, good: Path) -> None:
    # Without the check of every member 2 of 300 such files answered differently and said nothing.
    data = bytearray(good.read_bytes())
    data[len(data) // 2] ^= 1
    (tmp_path / "m.ts").write_bytes(data)
    assert "a model file must be whole" in refusal(tmp_path / "m.ts")


def test_zip_without_a_description(tmp_path: Path) -> None:
    with zipfile.ZipFile(tmp_path / "m.ts", "w") as archive:
        archive.writestr("hello.txt", "hello")
    assert "has streamfuse.json inside, got another kind of archive" in refusal(tmp_path / "m.ts")


def test_torchscript_without_a_description(tmp_path: Path) -> None:
    (tmp_path / "m.ts").write_bytes(torchscript.dump(torchscript.script(Foreign()), {}))
    assert "got TorchScript without a description" in refusal(tmp_path / "m.ts")


def test_saved_weights(tmp_path: Path) -> None:
    torch.save(random_network(small_spec()).state_dict(), tmp_path / "m.ts")
    assert "got another kind of archive" in refusal(tmp_path / "m.ts")


def test_description_without_a_program(tmp_path: Path) -> None:
    with zipfile.ZipFile(tmp_path / "m.ts", "w") as archive:
        archive.writestr(f"m/extra/{SPEC_FILE}", FOREIGN.to_json())
    assert "a model file must load" in refusal(tmp_path / "m.ts")


def test_other_contract(tmp_path: Path, good: Path) -> None:
    program = torchscript.load(good.read_bytes(), "cpu")
    text = small_spec().to_json().replace('"contract": 1', '"contract": 9')
    (tmp_path / "m.ts").write_bytes(torchscript.dump(program, {SPEC_FILE: text}))
    assert "must follow contract 1, got contract 9" in refusal(tmp_path / "m.ts")


def test_other_sha256_before_anything_is_read(tmp_path: Path, good: Path) -> None:
    wrong = "0" * 64
    assert f"the model file's sha256 must be {wrong}, got" in refusal(good, sha256=wrong)
    (tmp_path / "m.ts").write_text("not even a zip")
    assert "sha256 must be" in refusal(tmp_path / "m.ts", sha256=wrong)
    right = inspect_model(good).sha256
    assert load_model(good, device="cpu", sha256=right).sha256 == right


@pytest.mark.parametrize(
    ("module", "message"),
    [
        (Foreign(classes=4), r"logits 0 must be float32 \(1, 5\), got torch.float32 \(1, 4\)"),
        (Foreign(classes=5, state=2), r"state 0 must be float32 \(1, 3\), got torch.float32 \(1, 2\)"),
        (Foreign(classes=5, broken="double"), r"logits 0 must be float32 \(1, 5\), got torch.float64"),
        (Foreign(classes=5, broken="grows"), r"state 0 must be float32 \(1, 3\), got torch.float32 \(1, 6\)"),
        (Foreign(classes=5, broken="nan"), "must answer zeros with finite numbers, got NaN or inf"),
        (Foreign(classes=5, broken="raises"), "a model must run on zeros, got .*mat1 and mat2"),
        (nn.Linear(2, 2), "a model must run on zeros, got .*init_state"),
    ],
)
def test_program_that_disagrees_with_its_description(tmp_path: Path, module: nn.Module, message: str) -> None:
    with pytest.raises(ModelError, match=message):
        load_model(foreign(tmp_path / "m.ts", module, FOREIGN), device="cpu")


def test_our_program_with_another_picture_size(tmp_path: Path) -> None:
    spec, other = small_spec(size=32), small_spec(size=48)
    program = torchscript.freeze(Stepper(random_network(spec)), keep=("init_state",))
    write_model(torchscript.dump(program, {SPEC_FILE: other.to_json()}), tmp_path / "m.ts")
    assert "must be float32" in refusal(tmp_path / "m.ts")


def test_foreign_clip_model_runs(tmp_path: Path) -> None:
    spec = ModelSpec(
        name="clip",
        heads=(HeadSpec("scene", ("a", "b")),),
        video=VideoSpec(frames=4),
        state=(StateSpec("sum", (1, 3)),),
    )
    model = load_model(foreign(tmp_path / "m.ts", Foreign(classes=2), spec), device="cpu")
    state = model.init_state(2)
    video = np.full((2, 1, 4, 3, 128, 128), 0.5, np.float32)
    audio, present = np.zeros((2, 40, 40), np.float32), np.ones((2, 2), np.bool_)
    logits, state = model.step(video, audio, present, state)
    assert logits[0].tolist() == [[0.5, 0.5], [0.5, 0.5]]
    assert model.state_arrays(state)[0].tolist() == [[1.0] * 3] * 2


def test_wrong_inputs_are_a_callers_bug(model: Model) -> None:
    video, audio, present = model._zeros(1)
    state = model.init_state(1)
    for wrong, message in (
        (
            (video[:, :, :, :, 1:], audio, present),
            r"video must be float32 \(1, 1, 1, 1, 32, 32\), got float32",
        ),
        ((video.astype(np.float64), audio, present), "video must be float32 .*, got float64"),
        ((video, audio[:, :, :3], present), r"audio must be float32 \(1, 10, 40\), got float32 \(1, 10, 3\)"),
        ((video, audio, present.astype(np.uint8)), r"present must be bool \(1, 2\), got uint8"),
        ((video, audio, present[:, :1]), r"present must be bool \(1, 2\), got bool \(1, 1\)"),
    ):
        with pytest.raises(StageError, match=message):
            model.step(*wrong, state)


def test_a_tick_without_sound_frames_is_taken(model: Model) -> None:
    video, audio, present = model._zeros(1)
    logits, _ = model.step(video, audio[:, :0], present, model.init_state(1))
    assert [one.shape for one in logits] == [(1, 5), (1, 5), (1, 3)]


def random_step(
    model: Model, state: list[Tensor], seed: int, batch: int
) -> tuple[list[np.ndarray], list[Tensor]]:
    generator = np.random.default_rng(seed)
    video, audio, present = model._zeros(batch)
    video = generator.normal(size=video.shape).astype(np.float32)
    audio = generator.normal(size=audio.shape).astype(np.float32)
    return model.step(video, audio, present, state)


def test_a_reset_row_is_a_new_stream_and_the_other_is_untouched(model: Model) -> None:
    state = model.init_state(2)
    for seed in range(4):
        _, state = random_step(model, state, seed, 2)
    before = [one.clone() for one in state]
    begun = model.reset_rows(state, [1])
    assert all(torch.equal(a, b) for a, b in zip(state, before, strict=True)), "the old state is not changed"
    reset, _ = random_step(model, begun, 9, 2)
    going, _ = random_step(model, state, 9, 2)
    new, _ = random_step(model, model.init_state(2), 9, 2)
    for one, old, fresh in zip(reset, going, new, strict=True):
        assert np.abs(one[1] - fresh[1]).max() <= 1e-5
        assert np.abs(one[0] - old[0]).max() <= 1e-5
        assert np.abs(one[1] - old[1]).max() > 1e-3


def test_a_stored_state_goes_on_bit_for_bit(model: Model) -> None:
    _, state = random_step(model, model.init_state(1), 1, 1)
    stored = [one.copy() for one in model.state_arrays(state)]
    one, _ = random_step(model, state, 2, 1)
    two, _ = random_step(model, model.state_from_arrays(stored), 2, 1)
    assert all(np.array_equal(a, b) for a, b in zip(one, two, strict=True))


def test_a_stored_state_of_another_model_is_refused(model: Model) -> None:
    stored = model.state_arrays(model.init_state(1))
    for wrong in (stored[1:], [one.astype(np.float64) for one in stored], [one[..., :0] for one in stored]):
        with pytest.raises(ModelError, match="a stored state must be this model's"):
            model.state_from_arrays(wrong)


def test_probabilities_are_calibrated(model: Model) -> None:
    logits = [np.array([[1.0, 2.0, 3.0, 4.0, 900.0]]), np.zeros((1, 5)), np.array([[0.0, 800.0, -800.0]])]
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        got = model.probabilities([one.astype(np.float32) for one in logits])
    assert list(got) == ["scene", "emotion", "sound"]
    assert got["scene"][0].tolist() == [0, 0, 0, 0, 1]
    assert got["emotion"][0] == pytest.approx([0.2] * 5)
    assert got["sound"][0].tolist() == [0.5, 1.0, 0.0]


@pytest.mark.parametrize(("temperature", "want"), [(1.0, 0.88080), (2.0, 0.73106)])
def test_temperature_softens(good: Path, tmp_path: Path, temperature: float, want: float) -> None:
    heads = (HeadSpec("scene", ("a", "b"), temperature=temperature),)
    spec = ModelSpec(name="own", heads=heads, state=(StateSpec("sum", (1, 3)),))
    model = load_model(foreign(tmp_path / "m.ts", Foreign(classes=2), spec), device="cpu")
    got = model.probabilities([np.array([[0.0, 2.0]], np.float32)])["scene"]
    assert got[0, 1] == pytest.approx(want, abs=1e-5)


@pytest.mark.skipif(torch.cuda.is_available(), reason="there is a GPU here")
def test_cuda_that_is_not_there_is_an_error(good: Path) -> None:
    with pytest.raises(BackendError, match="cuda"):
        load_model(good, device="cuda")
    assert str(load_model(good, device="auto").device) == "cpu"


def test_float32_on_cuda_is_no_tf32(good: Path) -> None:
    """torch's own default rounds the inputs of convolutions to 10 bits."""
    torch.backends.cudnn.allow_tf32 = torch.backends.cuda.matmul.allow_tf32 = True
    load_model(good, device="cpu")
    assert not torch.backends.cudnn.allow_tf32 and not torch.backends.cuda.matmul.allow_tf32


def test_cudnns_word_about_an_lstms_weights_is_not_given_to_users() -> None:
    """Nobody who runs a model can do anything about it."""
    with warnings.catch_warnings(record=True) as told:
        warnings.simplefilter("always")
        torchscript.prepare_process(1)
        warnings.warn("RNN module weights are not part of single contiguous chunk of memory.", stacklevel=1)
        warnings.warn("another word", stacklevel=1)
    assert [str(each.message) for each in told] == ["another word"]


def test_programs_are_not_fused_on_a_gpu() -> None:
    torch._C._jit_override_can_fuse_on_gpu(True)
    torchscript.prepare_process(1)
    assert not torch._C._jit_can_fuse_on_gpu()


def test_threads_are_one_unless_asked(good: Path) -> None:
    before = torch.get_num_threads()
    try:
        load_model(good, device="cpu", threads=2)
        assert torch.get_num_threads() == 2
        load_model(good, device="cpu")
        assert torch.get_num_threads() == 1
    finally:
        torch.set_num_threads(before)


def test_inspect_runs_nothing_and_needs_no_torch(good: Path) -> None:
    code = (
        "import sys, json; from streamfuse.model.inspect import inspect_model;"
        f"print(json.dumps(inspect_model({str(good)!r}).as_dict()));"
        "assert 'torch' not in sys.modules and 'numba' not in sys.modules"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert '"preset": "tiny"' in done.stdout
    facts = inspect_model(good).as_dict()
    assert facts["bytes"] == good.stat().st_size
    assert 0 < facts["weights_bytes"] < facts["bytes"]


def test_inspect_does_not_run_a_program_that_would_break(tmp_path: Path) -> None:
    path = foreign(tmp_path / "m.ts", Foreign(classes=9, broken="raises"), FOREIGN)
    assert inspect_model(path).spec == FOREIGN


def test_default_model_missing_says_what_to_do(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setattr("streamfuse.model.inspect.DEFAULT_MODEL", tmp_path / "default.ts")
    with pytest.raises(ModelError, match=r"a model must be a file, got nothing there .*streamfuse train"):
        load_model(device="cpu")
