"""Any Gymnasium vector environment, seen by Stable-Baselines3 as one of its own.

Gymnasium's ``VectorEnv`` and SB3's ``VecEnv`` both step many environments at once but disagree on
every signature. SB3 vectorises single environments in Python; it has nothing for an environment
that is a batch already, such as a model decoding on an accelerator.
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

    Infos are filled only for rows whose episode ended, the others get an empty dict each:
    splitting a batch of infos is a Python loop that most steps would spend for nothing. Episode
    statistics are left to SB3's ``VecMonitor``, to be put around this class.

    ``get_attr``, ``set_attr`` and ``env_method`` reach the sub-environments that have the name
    (``SyncVectorEnv``, ``AsyncVectorEnv`` and their like), else the vector wrappers and the vector
    environment. Those belong to all rows: whatever the indices, a method is called once and an
    attribute set for all, and the one value is repeated in the answer.

    Args:
        env: The vector environment, wrapped or not. It must speak numpy (put Gymnasium's
            ``ArrayConversion`` around one that does not) and report SAME_STEP in
            ``metadata["autoreset_mode"]``, because SB3 has no other kind of reset.
        copy_observations: Whether to copy every batch of observations. SB3 stores a batch only
            after the next step, when an environment that keeps writing into one buffer has
            overwritten it. By default all are copied except those of a bare ``SyncVectorEnv``
            or ``AsyncVectorEnv`` with ``copy=True``, which copy already. False saves the copy
            for environments that return fresh arrays.

    Raises:
        TypeError: If ``env`` is not a vector environment.
        ValueError: If its autoreset mode is not SAME_STEP, or its observations are anything but
            a basic space (Box, Discrete, MultiDiscrete, MultiBinary) or one flat Dict of them.

    Example:
        >>> env = gym.make_vec(
        ...     "CartPole-v1",
        ...     num_envs=2,
        ...     vectorization_mode="sync",
        ...     vector_kwargs={"autoreset_mode": "SameStep"},
        ... )
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
        base: Any = env.unwrapped
        envs = getattr(base, "envs", None)
        is_local = isinstance(envs, list | tuple) and all(isinstance(e, gym.Env) for e in envs)
        self._sub_envs: list[gym.Env] = list(envs) if envs and is_local else []
        # Sub-environments out of reach (other processes), called all at once or not at all.
        is_remote = not self._sub_envs and hasattr(base, "call") and hasattr(base, "set_attr")
        self._remote: Any = base if is_remote else None
        self._actions: np.ndarray | None = None
        self._closed = False
        super().__init__(env.num_envs, space, env.single_action_space)
        # Video recorders read the frame rate here.
        self.metadata = {**env.metadata, **self.metadata}

    def reset(self) -> sb3.VecEnvObs:
        """Reset all rows with the seeds and options stored by ``seed`` and ``set_options``.

        Row i is seeded with s + i after ``seed(s)``: SB3's rule, and Gymnasium's for ``seed=s``.

        Returns:
            Observations [num_envs, ...], or a dict of them. ``reset_infos`` holds one info a row.

        Raises:
            ValueError: If ``set_options`` got a list of different dicts: Gymnasium takes one.
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
        """Keep the actions [num_envs, ...] for ``step_wait``.

        The step itself waits, so that vector wrappers, which know only ``step``, are not skipped.
        """
        self._actions = actions

    def step_wait(self) -> sb3.VecEnvStepReturn:
        """Step all rows; those whose episode ends are reset in the same step.

        Returns:
            Observations [num_envs, ...] (of the new episode where one ended), rewards [num_envs]
            float32, dones [num_envs] bool and one info a row. The info of a row that is done has
            ``terminal_observation`` (its own copy), ``TimeLimit.truncated`` (truncated and not
            terminated) and what the last step put in ``final_info``.

        Raises:
            RuntimeError: If no actions were given, or an episode ended without a ``final_obs``.
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
        """The attribute of each environment at ``indices``.

        Raises:
            AttributeError: If nobody has it.
        """
        rows = list(self._get_indices(indices))
        if self._remote_has(attr_name):
            # Not `get_attr`, which calls the attribute if it is a method.
            values = self._remote.call("get_wrapper_attr", attr_name)
            return [values[row] for row in rows]
        owners = self._owners(attr_name)
        if owners[0] is self.env and attr_name in ("observation_space", "action_space"):
            attr_name = f"single_{attr_name}"  # SB3 means the space of one environment
        return [getattr(owners[row], attr_name) for row in rows]

    def set_attr(self, attr_name: str, value: Any, indices: sb3.VecEnvIndices = None) -> None:
        """Set an attribute that exists in each environment at ``indices``.

        Raises:
            AttributeError: If nobody has it: a new one would be read by nobody.
        """
        rows = list(self._get_indices(indices))
        if self._remote_has(attr_name):
            values = self.get_attr(attr_name)
            for row in rows:
                values[row] = value
            self._remote.set_attr(attr_name, values)
        else:
            owners = self._owners(attr_name)
            for row in rows:
                setattr(owners[row], attr_name, value)

    def env_method(
        self,
        method_name: str,
        *method_args: Any,
        indices: sb3.VecEnvIndices = None,
        **method_kwargs: Any,
    ) -> list[Any]:
        """Call a method of each environment at ``indices`` and return one result per index.

        Raises:
            AttributeError: If nobody has the method.
            ValueError: If ``indices`` leaves out sub-environments in other processes, where
                Gymnasium calls all or none.
        """
        rows = list(self._get_indices(indices))
        if self._remote_has(method_name):
            if set(rows) != set(range(self.num_envs)):
                raise ValueError(f"cannot call {method_name!r} in sub-environments {rows} alone")
            results = self._remote.call(method_name, *method_args, **method_kwargs)
            return [results[row] for row in rows]
        owners = self._owners(method_name)
        results = {}
        for owner in (owners[row] for row in rows):
            if id(owner) not in results:
                results[id(owner)] = getattr(owner, method_name)(*method_args, **method_kwargs)
        return [results[id(owners[row])] for row in rows]

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

    def _remote_has(self, name: str) -> bool:
        # Always asked before: a worker of AsyncVectorEnv dies of an attribute that is missing.
        return self._remote is not None and all(self._remote.call("has_wrapper_attr", name))

    def _owners(self, name: str) -> list[Any]:
        """For each row the object that has the attribute: a sub-environment's layer or a batch's.

        Raises:
            AttributeError: If no layer has it.
        """
        owners = [_layer_with(env, name) for env in self._sub_envs]
        if not owners or None in owners:
            owners = [_layer_with(self.env, name)] * self.num_envs
        if None in owners:
            raise AttributeError(f"neither {self.env} nor its sub-environments have {name!r}")
        return owners


def _layer_with(env: Any, name: str) -> Any:
    """The outermost layer of a (vector) wrapper chain that has the attribute, or None."""
    while not hasattr(env, name):
        if not isinstance(env, gym.Wrapper | gym.vector.VectorWrapper):
            return None
        env = env.env
    return env


def _info_of_row(infos: Any, row: int, num_envs: int) -> dict[str, Any]:
    """The entries of one row in a batch of infos, copied.

    Args:
        infos: Gymnasium's dict of arrays [num_envs, ...], nested dicts and ``_key`` masks, or one
            dict per row (as ``DictInfoToList`` returns, and object arrays of dicts).
        row: The row.
        num_envs: Rows in the batch. A value of another length is no row's own and is copied whole.
    """
    if not isinstance(infos, Mapping):
        return deepcopy(dict(infos[row] or {}))
    picked: dict[str, Any] = {}
    for key, value in infos.items():
        is_mask = key.startswith("_") and key[1:] in infos
        mask = infos.get(f"_{key}")
        if is_mask or (mask is not None and not mask[row]):
            continue
        is_batch = isinstance(value, list | tuple) or (isinstance(value, np.ndarray) and value.ndim)
        if isinstance(value, Mapping):
            picked[key] = _info_of_row(value, row, num_envs)
        else:
            picked[key] = deepcopy(value[row] if is_batch and len(value) == num_envs else value)
    return picked
