"""Which template a name stands for."""

from __future__ import annotations

import pytest

from fastinfer.errors import ModelLoadError, PresetError
from fastinfer.prompts import find_template, template_names

OWN = "{{ messages[0].content }} of the file"


def test_the_packaged_templates_are_named():
    assert set(template_names()) == {"chatml", "seed_oss", "transcript"}


def test_auto_is_the_files_own(make_vocabulary):
    template = find_template("auto", make_vocabulary(architecture="qwen2", templates=OWN))
    assert (template.source, template.name, template.stop) == (OWN, "auto", ())


@pytest.mark.parametrize("templates", [None, OWN])
def test_auto_is_seed_oss_for_seed_models_whose_file_knows_no_thinking_budget(make_vocabulary, templates):
    assert find_template("auto", make_vocabulary(templates=templates)).name == "seed_oss"


def test_auto_is_the_files_own_for_seed_models_with_a_thinking_budget(make_vocabulary):
    own = OWN + "{{ thinking_budget }}"
    assert find_template("auto", make_vocabulary(templates=own)).source == own


def test_auto_without_a_template_in_the_file_says_what_to_name(make_vocabulary):
    with pytest.raises(ModelLoadError, match="no chat template") as error:
        find_template("auto", make_vocabulary(architecture="qwen2"))
    assert '"transcript"' in error.value.hint


def test_auto_takes_the_template_for_tools_too(make_vocabulary):
    named = [{"name": "default", "template": OWN}, {"name": "tool_use", "template": "{{ tools | tojson }}" + OWN}]
    template = find_template("auto", make_vocabulary(architecture="qwen2", templates=named))
    assert template.takes_tools
    assert template.render([{"role": "user", "content": "a"}]) == "a of the file"
    assert template.render([{"role": "user", "content": "a"}], tools=[{}]) == "[{}]a of the file"


def test_auto_with_a_damaged_template_says_so(make_vocabulary):
    with pytest.raises(ModelLoadError, match="no Jinja template"):
        find_template("auto", make_vocabulary(architecture="qwen2", templates="{% for %}"))


@pytest.mark.parametrize("name", ["chatml", "seed_oss", "transcript"])
def test_a_packaged_template_works_for_any_vocabulary(vocabulary, name):
    template = find_template(name, vocabulary)
    assert template.name == name
    assert "hello" in template.render([{"role": "user", "content": "hello"}])


def test_a_path_and_jinja_itself(seed, tmp_path, monkeypatch):
    path = tmp_path / "mine.jinja"
    path.write_text(OWN, encoding="utf-8")
    assert find_template(str(path), seed).source == OWN
    assert find_template(str(path), seed).name == "mine.jinja"
    monkeypatch.chdir(tmp_path)
    assert find_template("mine.jinja", seed).source == OWN
    assert find_template(OWN, seed).source == OWN
    assert find_template("{% if true %}x{% endif %}", seed).render([]) == "x"


def test_a_file_that_cannot_be_read_is_named(seed, tmp_path):
    with pytest.raises(ModelLoadError, match=r"nope\.jinja cannot be read: No such file"):
        find_template(str(tmp_path / "nope.jinja"), seed)
    (tmp_path / "latin.jinja").write_bytes(b"\xff\xfe{{")
    with pytest.raises(ModelLoadError, match=r"latin\.jinja cannot be read"):
        find_template(str(tmp_path / "latin.jinja"), seed)
    with pytest.raises(ModelLoadError, match="cannot be read"):
        find_template(str(tmp_path / "nul\0.jinja"), seed)


@pytest.mark.parametrize("name", ["", "chatlm", "llama-2", "../templates/chatml", "/etc/passwd"])
def test_an_unknown_name_lists_the_known_ones(seed, name):
    with pytest.raises(PresetError, match="auto, chatml, seed_oss, transcript"):
        find_template(name, seed)


def test_bos_and_eos_of_the_vocabulary_reach_the_template(vocabulary):
    template = find_template("{{ bos_token }}{{ eos_token }}", vocabulary)
    assert template.render([]) == vocabulary.bos + vocabulary.eos


def test_a_transcript_is_stopped_before_the_next_question(seed):
    assert "\nUser:" in find_template("transcript", seed).stop
