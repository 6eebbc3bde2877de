#!/bin/bash
# An encoder is carried from one hospital to another that calls variables otherwise, and measures fewer of them.
#
# Both are made up here. Each is mapped to the names and units of one vocabulary: the first by a renaming that is there,
# the second by a file of its own. What comes after the script's name are overrides of both runs.
set -euo pipefail

cat > ward.yaml <<'YAML'
hr: heart_rate
sbp: sbp
resp: resp_rate
temp: temperature
lact: lactate
crea: creatinine
fio2: {name: fio2, factor: 100}
age: age
sex: sex
YAML

first=(data=pool +data.source.members.first.source.name=synthetic +data.source.members.first.renaming=synthetic)
ward=(data=pool data.dataset_dir=datasets/ward "+data.source.members.ward.source={name: synthetic, seed: 7}"
  +data.source.members.ward.renaming=ward.yaml)

slices-pretrain "${first[@]}" "$@"
# variables that the ward does not measure count as unobserved
slices-finetune "${ward[@]}" "$@" task=in_hospital_mortality training.adapt_variables=true
