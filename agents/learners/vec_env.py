"""Any Gymnasium vector environment, seen by Stable-Baselines3 as one of its own.

SB3 vectorises single environments in Python; it has nothing for an environment that is a batch
already, such as a model decoding on an accelerator.
"""

import warnings
from collections.abc import Mapping, Sequence
from copy import deepcopy
from typing import Any

import gymnasium as gym
import numpy as np
from gymnasium import spaces
from gymnasium.vector import AsyncVectorEnv, AutoresetMode, SyncVectorEnv, VectorEnv
from stable_baselines3.common.env_util import is_wrapped
from stable_baselines3.common.vec_env import VecEnv
from stable_baselines3.common.vec_env import base_vec_env as sb3

_LEAF_SPACES = (spaces.Box, spaces.Discrete, spaces.MultiDiscrete, spaces.MultiBinary)


class GymnasiumVecEnv(VecEnv):
    """SB3's view of a ``gymnasium.vector.VectorEnv`` in SAME_STEP autoreset mode.

    Only rows whose episode ended have infos, the others an empty dict each: splitting a batch of
    infos is a loop that most steps would spend for nothing. Put SB3's ``VecMonitor`` around this
    class for statistics of episodes.

    ``get_attr``, ``set_attr`` and ``env_method`` reach the sub-environments that have the name
    (``SyncVectorEnv`` and its like), else the vector wrappers and the vector environment. Those
    belong to all rows: whatever the indices, a method is called once and an attribute set for all.

    Args:
        env: The vector environment, wrapped or not. It must speak numpy (put Gymnasium's
            ``ArrayConversion`` around one that does not) and report SAME_STEP in
            ``metadata["autoreset_mode"]``, because SB3 has no other kind of reset.
        copy_observations: Whether to copy every batch of observations: SB3 stores one only after
            the next step, which may write into the same buffer. By default all are copied but
            those of a bare ``SyncVectorEnv`` or ``AsyncVectorEnv`` that copies itself.

    Raises:
        TypeError: ``env`` is not a vector environment.
        ValueError: Its autoreset mode is not SAME_STEP, or its observations are anything but a
            basic space (Box, Discrete, MultiDiscrete, MultiBinary) or one flat Dict of them.

    Example:
        >>> env = gym.make_vec("CartPole-v1", 2, "sync", {"autoreset_mode": "SameStep"})
        >>> GymnasiumVecEnv(env).reset().shape
        (2, 4)
    """

    def __init__(self, env: VectorEnv[Any, Any, Any], copy_observations: bool | None = None):
        if not isinstance(env, VectorEnv):
            raise TypeError(f"expected a gymnasium.vector.VectorEnv, got {type(env).__name__}")
        mode = env.metadata.get("autoreset_mode")
        if mode not in (AutoresetMode.SAME_STEP, AutoresetMode.SAME_STEP.value):
            raise ValueError(
                f"SB3 needs autoreset_mode=AutoresetMode.SAME_STEP, got {mode} from {env}. "
                "Make the environment with autoreset_mode='SameStep', or with gymnasium.make_vec("
                "..., vectorization_mode='sync', vector_kwargs={'autoreset_mode': 'SameStep'})"
            )
        space = env.single_observation_space
        for leaf in space.values() if isinstance(space, spaces.Dict) else [space]:
            if not isinstance(leaf, _LEAF_SPACES):
                raise ValueError(
                    "expected a Box, Discrete, MultiDiscrete or MultiBinary observation space, "
                    f"or one flat Dict of them, got {space}"
                )
        if copy_observations is None:
            copy_observations = not (isinstance(env, SyncVectorEnv | AsyncVectorEnv) and env.copy)

        # VecEnv.__init__ asks get_attr for the render mode, so all that needs must be set before.
        self.env = env
        self.spec = env.spec
        self._copy_observations = copy_observations
        envs = getattr(env.unwrapped, "envs", None)
        is_local = isinstance(envs, list | tuple) and all(isinstance(e, gym.Env) for e in envs)
        self._sub_envs: list[gym.Env] = list(envs) if envs and is_local else []
        self._actions: np.ndarray | None = None
        self._closed = False
        super().__init__(env.num_envs, space, env.single_action_space)
        self.metadata = {**env.metadata, **self.metadata}  # video recorders read the frame rate

    def reset(self) -> sb3.VecEnvObs:
        """Reset all rows with the seeds and options stored by ``seed`` and ``set_options``.

        Row i is seeded with s + i after ``seed(s)``: SB3's rule, and Gymnasium's for ``seed=s``.

        Raises:
            ValueError: ``set_options`` got a list of different dicts: Gymnasium takes one.
        """
        if self._options != [self._options[0]] * self.num_envs:
            raise ValueError(f"expected the same options for all rows, got {self._options}")
        # Gymnasium tests for `int`, which a numpy integer is not.
        seed = None if self._seeds[0] is None else int(self._seeds[0])
        obs, infos = self.env.reset(seed=seed, options=self._options[0] or None)
        self.reset_infos = [_info_of_row(infos, row, self.num_envs) for row in range(self.num_envs)]
        self._reset_seeds()
        self._reset_options()
        self._actions = None
        return self._convert(obs, self._copy_observations)

    def step_async(self, actions: np.ndarray) -> None:
        """Keep the actions for ``step_wait``: vector wrappers know only a whole ``step``."""
        self._actions = actions

    def step_wait(self) -> sb3.VecEnvStepReturn:
        """Step all rows; those whose episode ends are reset in the same step.

        Returns:
            Observations (of the new episode where one ended), rewards float32, dones, and one info
            a row: of a row that is done what the last step put in ``final_info``, with
            ``terminal_observation`` and ``TimeLimit.truncated`` (and not terminated).

        Raises:
            RuntimeError: No actions were given, or an episode ended without a ``final_obs``.
        """
        if self._actions is None:
            raise RuntimeError("step_wait needs the actions of a step_async before it")
        actions, self._actions = self._actions, None
        obs, rewards, terminated, truncated, env_infos = self.env.step(actions)
        terminated, truncated = np.asarray(terminated, bool), np.asarray(truncated, bool)
        dones = terminated | truncated
        infos: list[dict[str, Any]] = [{} for _ in range(self.num_envs)]
        for row in np.flatnonzero(dones).tolist():
            # Beside the final_ entries are those of the reset that followed.
            reset_info = _info_of_row(env_infos, row, self.num_envs)
            final_obs = reset_info.pop("final_obs", None)
            if final_obs is None:
                raise RuntimeError(f"row {row} of {self.env} is done but info has no final_obs")
            infos[row] = reset_info.pop("final_info", None) or {}
            infos[row]["terminal_observation"] = self._convert(final_obs, copy=False)
            infos[row]["TimeLimit.truncated"] = bool(truncated[row] and not terminated[row])
            self.reset_infos[row] = reset_info
        # A copy always: on a truncation SB3 adds the value of the last state to it in place.
        rewards = np.array(rewards, dtype=np.float32)
        return self._convert(obs, self._copy_observations), rewards, dones, infos

    def close(self) -> None:
        """Close the environment, once."""
        if not self._closed:
            self._closed = True
            self.env.close()

    def get_images(self) -> Sequence[np.ndarray | None]:
        """One frame [height, width, channels] per row; None where there is none to show."""
        if self.render_mode != "rgb_array":
            warnings.warn(f"images need 'rgb_array', not {self.render_mode!r}", stacklevel=2)
            return [None] * self.num_envs
        frames: Any = self.env.render()
        return [None] * self.num_envs if frames is None else list(frames)

    def render(self, mode: str | None = None) -> np.ndarray | None:
        """All frames tiled in one [height, width, channels], None without any (see ``VecEnv``)."""
        if self.render_mode == "rgb_array" and mode in (None, "rgb_array"):
            frames = [frame for frame in self.get_images() if frame is not None]
            return sb3.tile_images(frames) if frames else None
        return super().render(mode)

    def get_attr(self, attr_name: str, indices: sb3.VecEnvIndices = None) -> list[Any]:
        """The attribute of each environment at ``indices``; AttributeError if nobody has it."""
        owners = self._owners(attr_name, indices)
        if owners and owners[0] is self.env and attr_name in ("observation_space", "action_space"):
            attr_name = f"single_{attr_name}"  # SB3 means the space of one environment
        return [getattr(owner, attr_name) for owner in owners]

    def set_attr(self, attr_name: str, value: Any, indices: sb3.VecEnvIndices = None) -> None:
        """Set an attribute that exists: AttributeError of a new one, which nobody would read."""
        for owner in self._owners(attr_name, indices):
            setattr(owner, attr_name, value)

    def env_method(
        self,
        method_name: str,
        *method_args: Any,
        indices: sb3.VecEnvIndices = None,
        **method_kwargs: Any,
    ) -> list[Any]:
        """Call a method at ``indices``, one result for each; AttributeError if nobody has it."""
        owners = self._owners(method_name, indices)
        results = {
            key: getattr(owner, method_name)(*method_args, **method_kwargs)
            for key, owner in {id(owner): owner for owner in owners}.items()
        }
        return [results[id(owner)] for owner in owners]

    def env_is_wrapped(
        self, wrapper_class: type[gym.Wrapper], indices: sb3.VecEnvIndices = None
    ) -> list[bool]:
        """Whether each sub-environment is wrapped so; False where there are none to look into."""
        return [
            bool(self._sub_envs) and is_wrapped(self._sub_envs[row], wrapper_class)
            for row in self._get_indices(indices)
        ]

    def _convert(self, obs: Any, copy: bool) -> Any:
        """Arrays of the space's dtypes and keys, for one row or a batch of them."""
        to_array = np.array if copy else np.asarray
        space = self.observation_space
        if isinstance(space, spaces.Dict):
            return {key: to_array(obs[key], dtype=leaf.dtype) for key, leaf in space.items()}
        return to_array(obs, dtype=space.dtype)

    def _owners(self, name: str, indices: sb3.VecEnvIndices) -> list[Any]:
        """What has the attribute, row by row: a layer of the sub-environment, or of the batch."""
        owners = [_layer_with(env, name) for env in self._sub_envs]
        if not owners or None in owners:
            owners = [_layer_with(self.env, name)] * self.num_envs
        if None in owners:
            raise AttributeError(f"neither {self.env} nor its sub-environments have {name!r}")
        return [owners[row] for row in self._get_indices(indices)]


def _layer_with(env: Any, name: str) -> Any:
    """The outermost layer of a (vector) wrapper chain that has the attribute, or None."""
    while not hasattr(env, name):
        if not isinstance(env, gym.Wrapper | gym.vector.VectorWrapper):
            return None
        env = env.env
    return env


def _info_of_row(infos: Any, row: int, num_envs: int) -> dict[str, Any]:
    """The entries of one row in a batch of infos; what is not `num_envs` long, whole.

    They are copies, but for arrays that nobody can write to.

    A batch is Gymnasium's dict of arrays, nested dicts and ``_key`` masks, or one dict per row (as
    ``DictInfoToList`` returns, and object arrays of dicts).
    """
    if not isinstance(infos, Mapping):
        return _copied(dict(infos[row] or {}))
    picked: dict[str, Any] = {}
    for key, value in infos.items():
        mask = infos.get(f"_{key}")
        if (key.startswith("_") and key[1:] in infos) or (mask is not None and not mask[row]):
            continue  # it is a mask itself, or the row has none
        is_batch = isinstance(value, list | tuple) or (isinstance(value, np.ndarray) and value.ndim)
        if isinstance(value, Mapping):
            picked[key] = _info_of_row(value, row, num_envs)
        else:
            picked[key] = _copied(value[row] if is_batch and len(value) == num_envs else value)
    return picked


def _copied(value: Any) -> Any:
    if isinstance(value, Mapping):
        return {key: _copied(part) for key, part in value.items()}
    if isinstance(value, np.ndarray) and not value.flags.writeable:
        return value
    return deepcopy(value)
