#!/usr/bin/env bash
# A SLURM cluster of one node, without systemd and without accounting. Needs root and Debian's slurm-wlm and munge.
#   cluster.sh start DIRECTORY [PORT]    PORT and the next one are slurmctld's and slurmd's; default 16817
#   cluster.sh restart DIRECTORY         slurmctld alone, as after a crash: the jobs go on
#   cluster.sh stop DIRECTORY            end jobs and daemons, and leave nothing but the logs
# Its users set SLURM_CONF=DIRECTORY/slurm.conf.
set -euo pipefail
action=$1 directory=$2 port=${3:-16817}
[[ $directory == /* ]] || directory=$PWD/$directory
export SLURM_CONF=$directory/slurm.conf

configuration() {
  cat <<EOF
ClusterName=one
SlurmctldHost=$(hostname -s)(127.0.0.1)
SlurmctldPort=$port
SlurmdPort=$((port + 1))
SlurmUser=root
SlurmdUser=root
AuthType=auth/munge
AuthInfo=socket=$directory/munge.socket
CryptoType=crypto/munge
StateSaveLocation=$directory/state
SlurmdSpoolDir=$directory/spool
SlurmctldPidFile=$directory/slurmctld.pid
SlurmdPidFile=$directory/slurmd.pid
SlurmctldLogFile=$directory/slurmctld.log
SlurmdLogFile=$directory/slurmd.log
ProctrackType=proctrack/linuxproc
TaskPlugin=task/none
MpiDefault=none
ReturnToService=2
JobRequeue=1
AccountingStorageType=accounting_storage/none
# A job over its memory is killed, without cgroups.
JobAcctGatherType=jobacct_gather/linux
JobAcctGatherFrequency=1
JobAcctGatherParams=OverMemoryKill
SelectType=select/cons_tres
SelectTypeParameters=CR_CPU_Memory
SchedulerParameters=sched_interval=2,bf_interval=2
NodeName=$(hostname -s) NodeAddr=127.0.0.1 CPUs=$(nproc) RealMemory=$(free -m | awk '/^Mem/ {print $2}')
PartitionName=all Nodes=ALL Default=YES MaxTime=INFINITE State=UP
EOF
}

# Stop a daemon by its own number and wait for its end.
stopped() {
  local pid
  pid=$(cat "$directory/$1.pid" 2>/dev/null) || return 0
  kill "$pid" 2>/dev/null || return 0
  for _ in $(seq 100); do kill -0 "$pid" 2>/dev/null || return 0; sleep 0.1; done
  kill -KILL "$pid"
}

answers() {
  for _ in $(seq 300); do
    if [[ $(sinfo -h -o %T 2>/dev/null) =~ idle|mixed|allocated ]]; then return; fi
    sleep 0.1
  done
  echo "SLURM does not start:" >&2
  tail -n 20 "$directory"/*.log >&2
  exit 1
}

case $action in
start)
  mkdir -p "$directory"/{state,spool}
  configuration >"$SLURM_CONF"
  dd if=/dev/urandom of="$directory/munge.key" bs=1024 count=1 status=none
  chmod 600 "$directory/munge.key"
  munged --force --socket "$directory/munge.socket" --key-file "$directory/munge.key" \
    --pid-file "$directory/munged.pid" --log-file "$directory/munged.log" --seed-file "$directory/munge.seed"
  slurmctld
  slurmd
  answers
  ;;
restart)
  stopped slurmctld
  slurmctld
  answers
  ;;
stop)
  scancel --signal=KILL --full --me 2>/dev/null || true
  scancel --me 2>/dev/null || true
  stopped slurmd
  stopped slurmctld
  stopped munged
  rm -rf "$directory"/{state,spool,munge.*}
  ;;
*)
  sed -n '2,6s/^# //p' "$0" >&2
  exit 2
  ;;
esac
