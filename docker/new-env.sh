#!/bin/sh
# Makes .env of .env.example: a random secret after every "=" that ends a line. Never overwrites one.
set -eu
cd "$(dirname "$0")"
[ ! -e .env ] || { echo ".env: must not exist yet, its passwords may be in use" >&2; exit 2; }
umask 077
while IFS= read -r line; do
  case $line in
    [A-Z]*=) line=$line$(od -An -N24 -tx1 /dev/urandom | tr -d ' \n') ;;
  esac
  printf '%s\n' "$line"
done <.env.example >.env.new
mv .env.new .env
