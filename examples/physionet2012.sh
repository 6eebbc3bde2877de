#!/bin/bash
# From the raw files of PhysioNet 2012 to a judged model: examples/physionet2012.sh data/physionet2012
#
# The folder has set-a, set-b, set-c (packed or not) and their Outcomes-*.txt. What comes after it are overrides of
# the data, as in data.resolution=2. EPOCHS=1 is for a first try.
set -euo pipefail

raw=${1:?the folder with the raw files}
data=(data=physionet2012 "data.source.raw=$raw" "${@:2}")
epochs=training.max_epochs=${EPOCHS:-30}

slices-prepare "${data[@]}"
slices-describe "${data[@]}"
slices-pretrain "${data[@]}" "$epochs" hydra.run.dir=outputs/pretrained
slices-finetune "${data[@]}" "$epochs" adaptation=probe checkpoint_path=outputs/pretrained/encoder.pt \
  hydra.run.dir=outputs/probe
slices-baseline "${data[@]}" tune=false hydra.run.dir=outputs/lightgbm
slices-evaluate "predictions={probe: outputs/probe, lightgbm: outputs/lightgbm}" folder=outputs/judged
