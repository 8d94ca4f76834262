"""Several models in one server that is told of other ones while it runs: by a call, by labels, and by its file."""

import shutil
import subprocess
import sys

import pytest

from plumbline.errors import ModelRefused, ModelUnavailable
from serving.client import ModelClient
from serving.models_client import ModelPlan, model_versions, reload_models
from tests.serving_model import columns
from tests.serving_process import ModelServer, until

DEADLINE_MS = 60_000


def entry(name, base_path, more=""):
    return f'config {{ name: "{name}" base_path: "{base_path}" model_platform: "tensorflow" {more} }}\n'


@pytest.fixture(scope="module")
def bases(request, tmp_path_factory):
    """Base paths of the models `one` (version 1) and `two` (versions 1 and 2)."""
    root = tmp_path_factory.mktemp("several")
    models = request.getfixturevalue("models")
    for name, versions in (("one", (1,)), ("two", (1, 2))):
        for version in versions:
            shutil.copytree(models / str(version), root / name / str(version))
    return root


@pytest.fixture(scope="module")
def running(bases, tmp_path_factory):
    file = bases / "models.config"
    file.write_text(f"model_config_list {{ {entry('one', bases / 'one')} }}")
    more = ["--model-config-file", str(file)]
    with ModelServer(bases / "none", tmp_path_factory.mktemp("log") / "serve.log", more=more) as started:
        started.wait_for("serving", 1)
        yield started


def served(server, name):
    return {
        number for number, each in model_versions(server.target, name, DEADLINE_MS).items() if each.state == "AVAILABLE"
    }


def test_a_release_in_two_steps_loads_a_version_and_then_moves_the_label(running, bases):
    plans = [ModelPlan("two", str(bases / "two"), versions=[1])]
    reload_models(running.target, plans, DEADLINE_MS)
    assert served(running, "two") == {1}, "it answers once the new model is served"
    until(lambda: not served(running, "one"))
    assert model_versions(running.target, "one", DEADLINE_MS)[1].state == "END"
    with ModelClient(running.target, "one", DEADLINE_MS) as left_out, pytest.raises(ModelUnavailable, match="Latest"):
        left_out.score(columns(1))

    both = ModelPlan("two", str(bases / "two"), versions=[1, 2], labels={"stable": 1})
    reload_models(running.target, [both], DEADLINE_MS)
    hasty = ModelPlan("two", str(bases / "two"), versions=[1, 2, 3], labels={"stable": 3})
    with pytest.raises(ModelRefused, match="Request to assign label to version 3 of model two, which is not currently"):
        reload_models(running.target, [hasty], DEADLINE_MS)
    until(lambda: served(running, "two") == {1, 2})
    reload_models(running.target, [ModelPlan("two", str(bases / "two"), newest=2, labels={"stable": 2})], DEADLINE_MS)
    assert served(running, "two") == {1, 2}


def test_a_model_that_does_not_load_is_told_of_with_its_reason_and_harms_no_other(running, bases):
    broken = bases / "broken" / "1"
    broken.mkdir(parents=True)
    (broken / "saved_model.pb").write_bytes(b"no model at all")
    plans = [ModelPlan("two", str(bases / "two")), ModelPlan("broken", str(bases / "broken"))]
    with pytest.raises(ModelUnavailable, match=r"1 model\(s\) did not become available: .*cannot be read"):
        reload_models(running.target, plans, DEADLINE_MS)
    assert model_versions(running.target, "broken", DEADLINE_MS)[1].code == "DATA_LOSS"
    assert served(running, "two") == {2}
    assert model_versions(running.target, "nobody", DEADLINE_MS) == {}


def test_a_server_that_is_away_is_told_of():
    with pytest.raises(ModelUnavailable, match="GetModelStatus at 127"):
        model_versions("127.0.0.1:1", "one", 500)


def test_a_configuration_file_is_read_again_and_one_that_is_wrong_changes_nothing(bases, tmp_path):
    file = tmp_path / "models.config"
    ahead = entry("one", bases / "one", 'version_labels { key: "new" value: 1 }')
    file.write_text(f"model_config_list {{ {ahead} }}")
    more = ["--model-config-file", str(file), "--model-config-file-poll-wait-seconds", "0.1"]
    more += ["--allow-version-labels-for-unavailable-models"]
    with ModelServer(tmp_path / "none", tmp_path / "serve.log", more=more) as server:
        server.wait_for("serving", 1)
        file.write_text(f"model_config_list {{ {entry('one', 'somewhere')} }}")
        until(lambda: "to have an absolute path or URI" in server.log.read_text())
        assert served(server, "one") == {1}
        file.write_text(f"model_config_list {{ {entry('two', bases / 'two')} }}")
        assert server.wait_for("serving", 2)["model"] == "two"
        until(lambda: not served(server, "one"))


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("model_config_list { config { nothing: 1 } }", "Invalid protobuf file"),
        ('model_config_list { config { name: "m" base_path: "m" model_platform: "tensorflow" } }', "absolute path"),
        (
            'model_config_list { config { name: "m" base_path: "/m" model_platform: "tensorflow" '
            'version_labels { key: "stable" value: 1 } } }',
            "Request to assign label to version 1 of model m, which is not currently available for inference",
        ),
    ],
)
def test_a_file_that_is_not_allowed_ends_the_start_with_one_sentence(tmp_path, text, said):
    (tmp_path / "models.config").write_text(text)
    arguments = ["--port", "0", "--rest-port", "0", "--model-config-file", str(tmp_path / "models.config")]
    done = subprocess.run(
        [sys.executable, "-m", "plumbline.cli.main", "serve", *arguments],
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )
    assert (done.returncode, done.stdout) == (1, "")
    assert said in done.stderr
    assert "Traceback" not in done.stderr
