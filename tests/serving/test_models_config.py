"""Configurations as text, their complaints, and what a server's models do when they are told of another one."""

from concurrent.futures import ThreadPoolExecutor

import pytest
from google.protobuf import text_format

from serving import wire_pb2 as wire
from serving.server import config
from serving.server.config import Policy
from serving.server.model import Model
from serving.server.models import Models
from serving.server.status import Code, StatusError
from serving.server.versions import State


def told(text):
    return text_format.Parse(text, wire.ModelServerConfig())


def model(name="m", base_path="/models/m", more=""):
    return f'config {{ name: "{name}" base_path: "{base_path}" model_platform: "tensorflow" {more} }}'


def models_told(*entries):
    return told(f"model_config_list {{ {' '.join(entries)} }}")


def test_a_configuration_says_name_path_policy_and_labels():
    got = config.wanted(
        models_told(
            model("a", "/a", 'version_labels { key: "stable" value: 3 }'),
            model("b", "/b", "model_version_policy { latest { num_versions: 2 } }"),
            model("c", "/c", "model_version_policy { all {} }"),
            model("d", "/d", "model_version_policy { specific { versions: 4 versions: 7 } }"),
            model(
                "e",
                "/e",
                "logging_config { sampling_config { sampling_rate: 0.5 }"
                " log_collector_config { type: 'tfrecord' filename_prefix: '/logs/e' } }",
            ),
        ),
        None,
    )
    assert [each.name for each in got] == ["a", "b", "c", "d", "e"]
    assert [str(each.base_path) for each in got] == ["/a", "/b", "/c", "/d", "/e"]
    assert [each.policy for each in got] == [
        Policy(1),
        Policy(2),
        Policy(None),
        Policy(None, frozenset({4, 7})),
        Policy(1),
    ]
    assert got[0].labels == {"stable": 3}
    assert got[4].logging.sampling_config.sampling_rate == 0.5


@pytest.mark.parametrize(
    ("text", "code", "complaint"),
    [
        ("custom_model_config {}", Code.INVALID_ARGUMENT, "ModelServer does not yet support custom model config."),
        (
            f"model_config_list {{ {model()} {model()} }}",
            Code.INVALID_ARGUMENT,
            "Illegal to list model m multiple times in config list",
        ),
        (
            f"model_config_list {{ {model(base_path='models/m')} }}",
            Code.INVALID_ARGUMENT,
            "Expected model m to have an absolute path or URI; got base_path()=models/m",
        ),
        (
            f"model_config_list {{ {model(base_path='gs://bucket/m')} }}",
            Code.INVALID_ARGUMENT,
            "Model m has the base path gs://bucket/m: this server reads local folders only",
        ),
        (
            'model_config_list { config { name: "m" base_path: "/m" } }',
            Code.INVALID_ARGUMENT,
            "Illegal setting neither ModelServerConfig::model_type (deprecated) nor ModelServerConfig::model_platform.",
        ),
        (
            f"model_config_list {{ {model(more='model_type: TENSORFLOW')} }}",
            Code.INVALID_ARGUMENT,
            "Illegal setting both ModelServerConfig::model_type (deprecated) and ModelServerConfig::model_platform.",
        ),
        (
            'model_config_list { config { name: "m" base_path: "/m" model_type: OTHER } }',
            Code.INVALID_ARGUMENT,
            "ModelServerConfig::model_type choice 2 not supported.",
        ),
        (
            'model_config_list { config { name: "m" base_path: "/m" model_platform: "scikit" } }',
            Code.INVALID_ARGUMENT,
            "Model m requests unsupported platform scikit",
        ),
    ],
)
def test_a_configuration_that_is_not_allowed_is_refused_in_the_protocols_words(text, code, complaint):
    with pytest.raises(StatusError) as caught:
        config.wanted(told(text), None)
    assert (caught.value.code, caught.value.message) == (code, complaint)


def test_only_a_list_of_models_may_follow_one():
    before = config.wanted(models_told(model()), None)
    with pytest.raises(StatusError) as caught:
        config.wanted(wire.ModelServerConfig(), before)
    assert caught.value.code is Code.FAILED_PRECONDITION
    assert caught.value.message == (
        "Cannot transition to requested config. It is only legal to transition from one ModelConfigList to another."
    )
    other = told('model_config_list { config { name: "m" base_path: "/m" model_platform: "scikit" } }')
    with pytest.raises(StatusError) as caught:
        config.wanted(other, before)
    assert caught.value.message == (
        "Illegal to change a model's platform. For model m platform was tensorflow and new platform requested is scikit"
    )
    assert config.wanted(told("model_config_list {}"), before) == ()
    assert config.wanted(told(""), None) == (), "at the start, nothing to serve is no mistake"


def test_a_deprecated_type_stands_for_its_platform():
    (got,) = config.wanted(
        told('model_config_list { config { name: "m" base_path: "/m" model_type: TENSORFLOW } }'), None
    )
    assert got.name == "m"


def test_a_file_is_read_or_its_fault_is_told(tmp_path):
    path = tmp_path / "models.config"
    with pytest.raises(
        StatusError, match=r"models\.config: No such file or directory: --model-config-file takes a file"
    ):
        config.read(path)
    path.write_text(f"# a comment\nmodel_config_list {{\n  {model()}\n}}\n")
    assert config.read(path) == models_told(model())
    path.write_text("model_config_list {\n  nothing: 1\n}\n")
    with pytest.raises(StatusError, match=rf"Invalid protobuf file: '{path}': 2:3 : .*nothing"):
        config.read(path)


class Bench:
    """Models in folders of a temporary path; a folder's text is its fault, and empty text is none."""

    def __init__(self, root, **options):
        self.root = root
        self.loads = []
        self.rung = 0
        self.models = Models(self.load, wake=self.ring, **options)

    def ring(self):
        self.rung += 1

    def load(self, folder, version):
        self.loads.append((folder.parent.name, version))
        if fault := (folder / "saved_model.pb").read_text():
            raise StatusError(Code.DATA_LOSS, fault)
        return Model(version, {}, {})

    def write(self, name, version, fault=""):
        folder = self.root / name / str(version)
        folder.mkdir(parents=True)
        (folder / "saved_model.pb").write_text(fault)

    def tell(self, **more):
        return self.models.reload(models_told(*(model(name, self.root / name, text) for name, text in more.items())))

    def look(self, times=2):
        """The first look sees a folder, the second one that nothing was written to it in between."""
        for _ in range(times):
            self.models.poll()

    def states(self, name):
        return {each.version: each.state for each in self.models.versions(name).statuses()}


@pytest.fixture
def bench(tmp_path):
    return Bench(tmp_path)


LATEST_2 = "model_version_policy { latest { num_versions: 2 } }"


def label(name, version):
    return f'version_labels {{ key: "{name}" value: {version} }}'


def test_several_models_are_served_side_by_side(bench):
    bench.write("a", 1)
    bench.write("b", 5)
    bench.tell(a="", b="")
    assert bench.rung == 1
    bench.look()
    assert bench.models.served() == [("a", 1), ("b", 5)]
    assert bench.models.versions("c") is None


def test_a_new_configuration_supersedes_and_what_it_leaves_out_is_let_go(bench):
    bench.write("a", 1)
    bench.write("b", 1)
    bench.write("c", 1)
    bench.tell(a="", b="")
    bench.look()
    bench.tell(b="", c="")
    bench.look()
    assert bench.models.served() == [("b", 1), ("c", 1)]
    assert bench.states("a") == {1: State.END}
    assert bench.loads == [("a", 1), ("b", 1), ("c", 1)], "what stays is not loaded again"


def test_a_label_may_only_go_to_a_version_that_is_available(bench):
    bench.write("a", 1)
    bench.write("a", 2)
    bench.tell(a="")
    bench.look()
    with pytest.raises(StatusError) as caught:
        bench.tell(a=LATEST_2 + label("stable", 1))
    assert caught.value.code is Code.FAILED_PRECONDITION
    assert caught.value.message == (
        "Request to assign label to version 1 of model a, which is not currently available for inference"
    )
    bench.look()
    assert bench.models.served() == [("a", 2)], "a configuration that is refused changes nothing"
    # In two steps: load, then label.
    bench.tell(a=LATEST_2)
    bench.look()
    bench.tell(a=LATEST_2 + label("stable", 1) + label("canary", 2))
    assert (bench.models.labelled("a", "stable"), bench.models.labelled("a", "canary")) == (1, 2)
    bench.tell(a=LATEST_2 + label("stable", 2))
    assert bench.models.labelled("a", "stable") == 2
    with pytest.raises(StatusError, match="Unrecognized servable version label: canary"):
        bench.models.labelled("a", "canary")


def test_a_new_label_may_run_ahead_where_that_is_allowed_and_a_moved_one_may_not(tmp_path):
    bench = Bench(tmp_path, labels_ahead=True)
    bench.write("a", 1)
    bench.tell(a=label("stable", 1))
    bench.look()
    bench.tell(a=label("stable", 1) + label("canary", 9))
    assert bench.models.labelled("a", "canary") == 9
    with pytest.raises(StatusError, match="Request to assign label to version 9 of model a"):
        bench.tell(a=label("stable", 9))


def test_who_waits_gets_an_answer_once_every_new_model_is_served(bench):
    bench.write("a", 1)
    wait = bench.tell(a="")
    with ThreadPoolExecutor(1) as pool:
        waiting = pool.submit(wait, lambda: True)
        bench.models.poll()
        assert not waiting.done(), "a folder that was written to just now is looked at once more"
        bench.models.poll()
        waiting.result(20)
    assert bench.models.served() == [("a", 1)]


def test_who_waits_for_a_model_that_does_not_load_is_told_why(bench):
    bench.write("a", 1)
    bench.write("b", 3, "cut short")
    wait = bench.tell(a="", b="", c="")
    bench.look()
    with pytest.raises(StatusError) as caught:
        wait(lambda: True)
    assert caught.value.code is Code.UNKNOWN
    assert caught.value.message == (
        "2 model(s) did not become available: {{{name: b version: 3} due to error: DATA_LOSS: cut short}, "
        "{{name: c} due to error: no version in its base path}, }"
    )
    assert bench.models.served() == [("a", 1)]


def test_who_waits_no_longer_is_let_go(bench):
    wait = bench.tell(a="")
    with pytest.raises(StatusError, match="not all loaded"):
        wait(lambda: False)


def test_a_base_path_that_cannot_be_read_stops_no_other_model(bench):
    (bench.root / "a").write_text("a file")
    bench.write("b", 1)
    bench.tell(a="", b="")
    bench.look()
    assert bench.models.served() == [("b", 1)]
