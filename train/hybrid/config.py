"""What a hybrid is made with: one YAML file for all steps, strict."""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path

from memkv.config import load_yaml
from memkv.errors import ConfigError


@dataclass(frozen=True)
class Corpus:
    """What is read. All of it is text that anybody can get without a model hub.

    Attributes:
        packages: Debian packages whose HTML and text is read; they are fetched by name and unpacked, not installed.
        files: your own text files, or folders of them.
        text_tokens: most tokens of packages and files, taken evenly.
        chats: conversations that the base writes itself, from the first messages of train families.
        chat_turns: messages of the user in each.
        episodes: generated conversations with rules, questions and answers, of train families.
        episode_tokens: of each.
        held_out: share of the documents that nothing is trained on.
        seed: of all that is drawn.
    """

    packages: tuple[str, ...] = ()
    files: tuple[str, ...] = ()
    text_tokens: int = 2_000_000
    chats: int = 200
    chat_turns: int = 3
    episodes: int = 200
    episode_tokens: int = 900
    held_out: float = 0.05
    seed: int = 0


@dataclass(frozen=True)
class Match:
    """Stage 1: each mixer learns to give what the attention of its layer gives, from the base's own inputs.

    Attributes:
        tokens: read in all; more than the corpus has begins it again.
        length: of a row, tokens.
        rows: of a step.
        learning_rate: at its highest; it falls to a tenth as a cosine.
        warmup: steps.
        save_steps: between checkpoints.
    """

    tokens: int = 400_000
    length: int = 512
    rows: int = 4
    learning_rate: float = 2e-3
    warmup: int = 20
    save_steps: int = 50


@dataclass(frozen=True)
class Choose:
    """Which layers keep their attention, by what is lost when one alone is swapped.

    Attributes:
        keep: how many.
        tokens: of held-out text that are read for each layer.
        policies: conversations of rules that are probed for each layer.
        probes_weigh: of what probes lose beside what text loses, each as a share of what all layers lose.
        layers: takes these instead of choosing; empty chooses.
    """

    keep: int = 7
    tokens: int = 8_192
    policies: int = 6
    probes_weigh: float = 1.0
    layers: tuple[int, ...] = ()


@dataclass(frozen=True)
class Distil:
    """Stage 2: the hybrid as a whole learns the base's next-token distribution and hidden states.

    Attributes:
        tokens: read in all.
        lengths: of rows, tokens, in turn: long contexts too.
        tokens_a_step: of an optimizer step, about.
        at_once: tokens of one pass, at most, where a row is not longer; memory grows with it.
        learning_rate: of the mixers, at its highest; it falls to a tenth as a cosine.
        lora: rank of what is trained in the layers beside the mixers; 0 leaves them.
        lora_rate: learning rate of that.
        hidden: weight of the hidden states' relative error beside the KL divergence.
        warmup: steps.
        save_steps: between checkpoints.
    """

    tokens: int = 400_000
    lengths: tuple[int, ...] = (512, 512, 512, 2048)
    tokens_a_step: int = 2_048
    at_once: int = 2_048
    learning_rate: float = 1e-3
    lora: int = 16
    lora_rate: float = 2e-4
    hidden: float = 0.5
    warmup: int = 20
    save_steps: int = 25

    def rows(self, length: int) -> int:
        """Of a step, where rows have this length."""
        return max(1, self.tokens_a_step // length)

    @property
    def steps(self) -> int:
        """That read as many tokens; a row longer than `tokens_a_step` is a step of its own."""
        of_a_turn = sum(self.rows(length) * length for length in self.lengths)
        return -(-self.tokens * len(self.lengths) // of_a_turn)


@dataclass(frozen=True)
class Ladder:
    """Hybrids that keep more attention, out of the same mixers: only norms and low-rank changes are learned further.

    Attributes:
        keep: how many layers keep attention in each, more from one to the next; () makes none.
        tokens: read for each, one number a hybrid.
        lengths: of rows, tokens, in turn; () for those of stage 2, as all else is.
    """

    keep: tuple[int, ...] = ()
    tokens: tuple[int, ...] = ()
    lengths: tuple[int, ...] = ()


@dataclass(frozen=True)
class Config:
    """All of it.

    Attributes:
        model: the base: smollm2-135m, or a folder of a Llama-family model.
        seed: of the order of rows.
        dtype: in which products of matrices are computed while training; weights and sums stay fp32. `auto` is bfloat16
            where the machine has instructions for it.
        threads: of torch on a CPU; None for all cores.
        device: cpu or cuda.
    """

    model: str = "smollm2-135m"
    seed: int = 0
    dtype: str = "auto"
    threads: int | None = None
    device: str = "cpu"
    corpus: Corpus = field(default_factory=Corpus)
    match: Match = field(default_factory=Match)
    choose: Choose = field(default_factory=Choose)
    distil: Distil = field(default_factory=Distil)
    ladder: Ladder = field(default_factory=Ladder)


def load_config(path: Path) -> Config:
    """Read and check a YAML file.

    Raises:
        ConfigError: an unknown key, or sizes that do not go together.
    """
    config = load_yaml(Config, path)
    if config.choose.layers and len(config.choose.layers) != config.choose.keep:
        raise ConfigError(
            f"{path}: choose.layers names {len(config.choose.layers)} layers and choose.keep is {config.choose.keep}",
            "Name as many, or leave out one of the two.",
        )
    if not 0 < config.corpus.held_out < 1:
        raise ConfigError(f"{path}: corpus.held_out is {config.corpus.held_out}", "Give a share between 0 and 1.")
    sizes = {
        "match.length": config.match.length, "match.rows": config.match.rows, "match.tokens": config.match.tokens,
        "distil.tokens": config.distil.tokens, "distil.tokens_a_step": config.distil.tokens_a_step,
        "distil.at_once": config.distil.at_once,
        **{f"distil.lengths[{n}]": length for n, length in enumerate(config.distil.lengths)},
        **{f"ladder.lengths[{n}]": length for n, length in enumerate(config.ladder.lengths)},
        **{f"ladder.tokens[{n}]": tokens for n, tokens in enumerate(config.ladder.tokens)},
    }  # fmt: skip
    for name, size in sizes.items():
        if size < 1:
            raise ConfigError(f"{path}: {name} is {size}", "Give 1 or more.")
    rungs = (config.choose.keep, *config.ladder.keep)
    if list(rungs) != sorted(set(rungs)):
        raise ConfigError(
            f"{path}: ladder.keep is {list(config.ladder.keep)} above choose.keep, {config.choose.keep}",
            "Name numbers above choose.keep, each higher than the one before.",
        )
    if len(config.ladder.tokens) != len(config.ladder.keep):
        raise ConfigError(
            f"{path}: ladder.tokens is {list(config.ladder.tokens)} for ladder.keep {list(config.ladder.keep)}",
            "Say for each how many tokens are read.",
        )
    if config.ladder.keep and config.choose.layers:
        raise ConfigError(
            f"{path}: choose.layers fixes the layers, so that nothing says which come next in ladder.keep",
            "Leave out one of the two.",
        )
    if not config.distil.lengths:
        raise ConfigError(f"{path}: distil.lengths is empty", "Name one length or more, in tokens.")
    return config
