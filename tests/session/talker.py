"""One of two processes that hold the same conversations: `before` starts them, `after` opens them again.

Each writes, for every model it is given, what the next question is answered with: tokens and logits.
"""

from __future__ import annotations

import sys
from pathlib import Path

import torch
from safetensors.torch import save_file
from tiny_chat import tiny_chat

from memkv.model import HybridModel
from memkv.session import Session
from memkv.store import MemoryStore

QUESTION = [20, 21, 22, 23, 24]
PROOF_TOKENS = 32


def load(name: str) -> HybridModel:
    return HybridModel.from_pretrained(name) if name == "smollm2-135m" else tiny_chat(name)


def main(act: str, folder: str, *names: str) -> None:
    found = {}
    with MemoryStore.open(Path(folder) / "store") as store:
        for name in names:
            model = load(name)
            with Session(model, store.tenant("ada"), name, memories=False) as session:
                if act == "before":
                    for turn in range(3):
                        session.turn(f"Question {turn}: what of item {turn * 7}?", max_new_tokens=12)
                live = session.fork()
                logits_V = model.extend(live, QUESTION)
                tokens = list(model.generate(live, PROOF_TOKENS))
                # The reference that knows no cache: the whole text in one pass.
                reference_TV = model.one_pass_logits(live.token_ids)
                found[f"{name}.logits"] = logits_V.clone()
                found[f"{name}.tokens"] = torch.tensor(tokens)
                found[f"{name}.last"] = live.next_logits.clone()
                found[f"{name}.reference"] = reference_TV[-1].clone()
                found[f"{name}.reused"] = torch.tensor([session.opened.reused_tokens, session.opened.prefilled_tokens])
    save_file(found, Path(folder) / f"{act}.safetensors")


if __name__ == "__main__":
    main(*sys.argv[1:])
