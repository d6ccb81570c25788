"""What any learner needs to go on where it stopped, as tensors and numbers."""

from collections.abc import Mapping
from typing import Any

import torch
from stable_baselines3.common.base_class import BaseAlgorithm
from stable_baselines3.common.off_policy_algorithm import OffPolicyAlgorithm

_BUFFER = ("observations", "next_observations", "actions", "rewards", "dones", "timeouts")


def learner_state(model: BaseAlgorithm) -> dict[str, Any]:
    """All that `model` needs to go on: networks, optimizers, other variables, replay buffer."""
    state: dict[str, Any] = {
        "timesteps": model.num_timesteps,
        "updates": int(getattr(model, "_n_updates", 0)),
        "parameters": model.get_parameters(),
        "variables": {name: getattr(model, name).detach() for name in _variables(model)},
    }
    if isinstance(model, OffPolicyAlgorithm):
        buffer = model.replay_buffer
        assert buffer is not None
        arrays = {name: torch.from_numpy(getattr(buffer, name)) for name in _BUFFER}
        state["replay"] = arrays | {"position": buffer.pos, "full": buffer.full}
    return state


def load_learner_state(model: BaseAlgorithm, state: Mapping[str, Any]) -> None:
    """Restore what `learner_state` gave."""
    model.num_timesteps = int(state["timesteps"])
    model._n_updates = int(state["updates"])
    model.set_parameters(dict(state["parameters"]), device=model.device)
    for name in _variables(model):
        getattr(model, name).data.copy_(state["variables"][name])
    if isinstance(model, OffPolicyAlgorithm):
        buffer = model.replay_buffer
        assert buffer is not None
        for name in _BUFFER:
            getattr(buffer, name)[:] = state["replay"][name].numpy()
        buffer.pos, buffer.full = int(state["replay"]["position"]), bool(state["replay"]["full"])


def _variables(model: BaseAlgorithm) -> list[str]:
    return model._get_torch_save_params()[1]
