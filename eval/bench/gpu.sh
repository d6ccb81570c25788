#!/usr/bin/env bash
# Checks, then measurements, on a machine with a GPU, Python and torch: `make gpu`.
#
# Each part can fail by itself; what was measured is written after every section. Variables:
#   PYTHON     an interpreter that has torch, which is left as it is (python3)
#   WHEELS     a folder of wheels, which `make wheels` fills, for a machine without network; without
#              it pip installs what is missing
#   OUT        the folder of the results (runs/gpu)
#   DEVICE     a torch device (cuda)
#   THREADS    of torch (8)
#   REHEARSAL  1: the same in small, two minutes
set -uo pipefail
cd "$(dirname "$0")/../.." || exit 1

python=${PYTHON:-python3} wheels=${WHEELS:-} out=${OUT:-runs/gpu} device=${DEVICE:-cuda}
threads=${THREADS:-8}
export PYTHONUNBUFFERED=1 PYTHONDONTWRITEBYTECODE=1 TQDM_DISABLE=1 HF_HUB_OFFLINE=1
export PYTHONPATH="$PWD${PYTHONPATH:+:$PYTHONPATH}"
site=$(mktemp -d)
trap 'rm -rf "$site"' EXIT
started=$SECONDS failed=()
mkdir -p "$out"

installed() {
    "$python" -c 'import gymnasium, stable_baselines3, sb3_contrib, diffusers, tyro, cma, pytest'
}

install() {
    if [ -n "$wheels" ]; then
        "$python" -m pip install -q --no-index --no-deps --no-compile --no-cache-dir \
            --target "$site" "$wheels"/*.whl
    elif ! installed 2>/dev/null; then
        "$python" -c 'import torch; print("torch==" + torch.__version__)' >"$site/kept.txt" &&
            "$python" -m pip install -q -c "$site/kept.txt" -e . pytest
    fi
}

part() { # what to show, seconds at most, a command
    local name=$1 seconds=$2
    shift 2
    echo "==> $name, $((SECONDS - started)) s since the start"
    timeout --kill-after=10 "$seconds" "$@" || failed+=("$name")
}

checks() {
    part checks 90 env NAT_DEVICE="$device" OMP_NUM_THREADS=4 \
        "$python" -m pytest -q -W default -p no:cacheprovider --durations=3 tests/device
}

bench() { # what to show, seconds at most, options of nat-bench
    local name=$1 seconds=$2
    shift 2
    part "$name" "$seconds" env OMP_NUM_THREADS="$threads" "$python" -c \
        'import sys; sys.argv[0] = "nat-bench"; from nat_env.commands.entry import bench; bench()' \
        --device "$device" --threads "$threads" --tf32 --decoder-dtype bfloat16 \
        --decode.bundles --decode.random-tokenizer --decode.dtypes auto "$@"
}

measurements() {
    local sizes=(
        --repeats 2
        --decode.random-num-steps 4 8 --decode.random-batch-sizes 64 1024
        --paper-round.trajectories 1024 4096 --paper-round.num-envs 1024
        --plan.nat S --plan.num-steps 8 --plan.trajectories 256 512 --plan.held 1024
        --plan.num-envs 256
    )
    if [ "${REHEARSAL:-0}" = 1 ]; then
        sizes=(
            --repeats 1
            --decode.random-num-steps 8 --decode.random-batch-sizes 64 256
            --paper-round.trajectories 64 256 --paper-round.num-envs 128
            --plan.nat small --plan.trajectories 32 64 --plan.held 128
        )
    fi
    bench measurements 360 --out "$out" --parts paper-round decode plan \
        --paper-round.nat L --paper-round.num-steps 8 --decode.random S L "${sizes[@]}"
}

compiled() {
    bench compiled 60 --out "$out/compiled" --parts decode --compiled --repeats 2 \
        --decode.random S --decode.random-num-steps 8 --decode.random-batch-sizes 256
}

main() {
    install && export PYTHONPATH="$PYTHONPATH:$site" && installed || return 1
    "$python" -c "import torch; torch.empty(1, device='$device')" || return 1
    checks
    measurements
    compiled
    echo "==> $((SECONDS - started)) s in all; results in $out"
    [ ${#failed[@]} -eq 0 ] || { echo "gpu: failed: ${failed[*]}" && return 1; }
}

main 2>&1 | tee "$out/gpu.log"
exit "${PIPESTATUS[0]}"
