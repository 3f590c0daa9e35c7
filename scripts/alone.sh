#!/bin/sh
# SPDX-License-Identifier: GPL-2.0-only
# Run a command, unless another run is at work in this clone.
#	alone.sh COMMAND...
set -eu
. "$(dirname "$0")/lib.sh"
alone
exec "$@"
