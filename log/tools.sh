# What the log tools beside this file share; read by them, not run.

LC_ALL=C
export LC_ALL

# The directory of the service: where this script lies, if it has a log; else that of one of the usual users; else the
# present one.
find_home() {
    here=$(cd "$(dirname "$0")/.." && pwd)
    if [ -e "$here/log/main/current" ]; then
        echo "$here"
        return
    fi
    for user in qpsmtpd smtpd; do
        home=$(getent passwd "$user" 2>/dev/null | cut -d: -f6)
        [ -n "$home" ] || continue
        for place in "$home" "$home/smtpd" "$home/qpsmtpd" "$home/qpsmtpd-dev"; do
            if [ -d "$place/plugins" ] && [ -e "$place/log/main/current" ]; then
                echo "$place"
                return
            fi
        done
    done
    pwd
}

# fail WORDS: says why, and ends.
fail() {
    echo "$(basename "$0"): $*" >&2
    exit 1
}

# The file that is being written.
current_log() {
    log=$(find_home)/log/main/current
    [ -r "$log" ] || fail "cannot read $log (or name a file)"
    echo "$log"
}

# An awk that takes each line as it comes.
awk_now() {
    if awk -W version </dev/null 2>&1 | grep -q mawk; then awk -W interactive "$@"; else awk "$@"; fi
}
