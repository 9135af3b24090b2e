#!/usr/bin/env bash
# The sweeps that the presets were chosen from, environment by environment, by sampled returns; those
# that were run one after another are one grid here. All of them, or those of some environments:
#
#     bash benchmarks/tuning.sh [ENV ...]
set -euo pipefail
cd "$(dirname "$0")"

wanted=" $* "

# tune ENV ALGORITHM FLAG...: a sweep, if its environment is wanted.
tune() {
  if [ "$wanted" = "  " ] || [[ "$wanted" == *" $1 "* ]]; then python tune.py "$@"; fi
}

# falling START UPDATES: a number that falls linearly to 0.
falling() {
  echo "pgjax.Schedule(optax.linear_schedule,init_value=$1,end_value=0.0,transition_steps=$2)"
}

# memory SIZE: a recurrent network.
memory() { echo "network=pgjax.Recurrent(pgjax.MLP(($1,)),$1)"; }

rate=optimizer.learning_rate
# What was tuned is a bound of 0.5 on the gradient of a sum over the 128 rows of a segment; segments'
# objectives are means over their steps since.
bound=optimizer.max_gradient_norm=None,0.00390625
normalized="normalize_observations=True"
continuous="$normalized distribution=normal"

tune Acrobot-v1 ppo --set $normalized sampler.length=128 \
  --grid "$rate=$(falling 3e-3 120),$(falling 1e-2 120),$(falling 2e-2 120)" \
  estimator.gae_lambda=0.9,0.95 estimator.discount=0.98,0.99,1.0

passes="ascent.epochs=10 ascent.minibatches=16 critic.epochs=5 critic.minibatches=16"
tune Pendulum-v1 ppo --set $continuous $passes sampler.num_envs=32 sampler.length=200 \
  num_updates=150 --grid "$rate=$(falling 7e-4 150),$(falling 1e-3 150)" \
  distribution=normal,tanh_normal estimator.discount=0.93,0.95,0.97 --episodes 256

# Acrobot with as many steps in more, smaller updates; Pendulum with shorter traces, and without seeds
# that a large step had lost.
tune Acrobot-v1 preset --num-seeds 10 --episodes 256 --set sampler.num_envs=64 num_updates=120 \
  --grid "$rate=$(falling 1e-2 120),$(falling 1.5e-2 120),$(falling 3e-2 120)" \
  ascent.minibatches=8 estimator.gae_lambda=0.95,0.97
tune Acrobot-v1 preset --num-seeds 10 --episodes 256 \
  --grid "$rate=$(falling 1e-2 240),$(falling 2e-2 240)" ascent.minibatches=4,8
tune Pendulum-v1 preset --num-seeds 5 --episodes 256 --set ascent.max_kl=None \
  --grid estimator.gae_lambda=0.8,0.9,0.95
tune Pendulum-v1 preset --num-seeds 10 --episodes 128 \
  --grid "$rate=$(falling 7e-4 150),$(falling 1e-3 150)"

tune MountainCar-v0 ppo --set $normalized sampler.length=128 \
  --grid "$rate=$(falling 2e-3 120),$(falling 5e-3 120)" estimator.gae_lambda=0.95,0.98,1.0

for env in Acrobot-v1 MountainCar-v0; do
  tune $env preset --num-seeds 6 --set optimizer.max_gradient_norm=0.00390625 sampler.num_envs=64 \
    num_updates=120 --grid "$rate=$(falling 5e-3 120),$(falling 1e-2 120),$(falling 2e-2 120)"
done

tune MountainCarContinuous-v0 ppo --set $continuous sampler.length=128 num_updates=100 \
  --grid $rate=1e-3,3e-3 estimator.discount=0.99,0.999

# Two million steps, of ten.
minatar="objective.entropy_coefficient=0.01 ascent.minibatches=8 critic.minibatches=8"
tune Breakout-MinAtar ppo --set $minatar sampler.length=128 num_updates=244 \
  "network=pgjax.MLP((64,64),'relu')" --num-seeds 2 \
  --grid $rate=1e-3,5e-3 $bound critic.learning_rate=1e-3,5e-3

# Where 0.95 was slow to learn: first whether it is the rate, the entropy or the observations' scale,
# then λ.
shorter="num_updates=244 $rate=$(falling 5e-3 244)"
tune Asterix-MinAtar preset --set num_updates=244 estimator.gae_lambda=0.95 --num-seeds 2 \
  --grid "$rate=$(falling 1e-3 244),$(falling 2.5e-3 244),$(falling 5e-3 244)" \
  objective.entropy_coefficient=0.003,0.01,0.05
tune Asterix-MinAtar preset --set num_updates=244 estimator.gae_lambda=0.95 $normalized \
  --num-seeds 2 --grid "$rate=$(falling 1e-3 244),$(falling 5e-3 244)"
tune Asterix-MinAtar preset --set $shorter --num-seeds 2 \
  --grid estimator.gae_lambda=0.25,0.5,0.65,0.8,0.95 estimator.discount=0.97,0.99
tune Freeway-MinAtar preset --set $shorter --num-seeds 1 --grid estimator.gae_lambda=0.5,0.8,0.95
tune Seaquest-MinAtar preset --set $shorter --num-seeds 1 --grid estimator.gae_lambda=0.5,0.95

tune DeepSea-bsuite reinforce --set sampler.num_trajectories=1024 num_updates=100 \
  --grid $rate=1e-3,3e-3,1e-2
tune UmbrellaChain-bsuite reinforce --set sampler.num_trajectories=512 num_updates=100 \
  --grid $rate=3e-3,1e-2
tune DiscountingChain-bsuite reinforce --set sampler.num_trajectories=256 num_updates=120 \
  --num-seeds 10 --grid $rate=1e-2,2e-2 \
  objective.entropy_coefficient="$(falling 0.03 60),$(falling 0.1 60)"
tune MemoryChain-bsuite reinforce --set "$(memory 32)" num_updates=100 \
  sampler.num_trajectories=128 sampler.horizon=8 --grid $rate=3e-3,1e-2
tune SimpleBandit-bsuite reinforce --set sampler.num_trajectories=128 num_updates=60 \
  --grid $rate=3e-3,1e-2

tune FourRooms-misc ppo --set sampler.num_envs=128 estimator.discount=0.98 \
  --grid $rate=1e-3,3e-3 objective.entropy_coefficient=0.0,0.01,0.03,0.1
tune FrozenLake-misc ppo --set sampler.num_envs=128 --episodes 1024 \
  --grid "$rate=$(falling 3e-3 120)" estimator.discount=0.99,1.0
tune FrozenLake-misc reinforce --set sampler.num_trajectories=256 num_updates=150 \
  --grid $rate=3e-3,1e-2,3e-2
tune MetaMaze-misc ppo --set "$(memory 64)" sampler.num_envs=128 sampler.length=50 \
  num_updates=150 objective.entropy_coefficient=0.01 --num-seeds 2 --grid $rate=1e-3
tune MetaMaze-misc preset --num-seeds 2 --episodes 256 --grid estimator.gae_lambda=0.5,0.8,0.95

# The goal is not in the observation: first without a memory, then with one.
tune PointRobot-misc ppo --set distribution=normal sampler.num_envs=128 sampler.length=50 \
  num_updates=150 --grid $rate=1e-3,3e-3 estimator.discount=0.9,0.99
robot="distribution=normal sampler.num_envs=128 sampler.length=100 num_updates=100"
tune PointRobot-misc ppo --num-seeds 2 --episodes 256 --set "$(memory 64)" $robot \
  --grid "$rate=$(falling 1e-3 100),$(falling 3e-3 100)" estimator.discount=0.9,0.97
tune PointRobot-misc ppo --num-seeds 2 --episodes 256 --set "$(memory 64)" $robot \
  estimator.discount=0.97 --grid "$rate=$(falling 3e-3 100),$(falling 1e-2 100)" \
  estimator.gae_lambda=0.5,0.8
for bandit in BernoulliBandit-misc GaussianBandit-misc; do
  tune $bandit reinforce --set "$(memory 32)" sampler.num_trajectories=128 num_updates=60 \
    --num-seeds 2 --grid $rate=3e-3,1e-2
done
# Without entropy most seeds stop pulling the arm that costs 1 on average, before they know when.
tune GaussianBandit-misc reinforce --set "$(memory 32)" sampler.num_trajectories=256 num_updates=150 \
  "$rate=$(falling 1e-2 150)" --episodes 128 \
  --grid objective.entropy_coefficient="0.0,$(falling 0.5 75),$(falling 1.0 75)"
tune BernoulliBandit-misc reinforce --set "$(memory 32)" sampler.num_trajectories=128 num_updates=100 \
  --num-seeds 10 --episodes 128 --grid estimator.discount=0.9,1.0 \
  "$rate=$(falling 3e-3 100),$(falling 5e-3 100),$(falling 1e-2 100)"
tune BernoulliBandit-misc reinforce --set "$(memory 32)" sampler.num_trajectories=128 num_updates=100 \
  "$rate=$(falling 1e-2 100)" --num-seeds 10 --episodes 128 \
  --grid optimizer.max_gradient_norm=None,0.5 objective.entropy_coefficient=0.0,0.01
for joints in Reacher-misc Swimmer-misc; do
  tune $joints ppo --set $continuous sampler.length=100 num_updates=100 --num-seeds 2 \
    --grid $rate=1e-3,3e-3 estimator.discount=0.9,0.99
done
