#!/bin/bash
# Subscribes to a cluster's events with nothing but a TCP connection, to show the
# NATS protocol that every client speaks: prints one line an event, acknowledges
# it, and goes on where it stopped when it is started again.
#
#   reprise integrator create billing --allow 'pods.shop.>' --password
#   ./subscribe.sh 127.0.0.1:4222 billing billing.password
set -euo pipefail
export LC_ALL=C # lengths are in bytes
server=${1:?usage: subscribe.sh HOST:PORT CONSUMER PASSWORDFILE}
name=${2:?which consumer?}
password=$(<"${3:?which file has the password?}")

exec 3<>"/dev/tcp/${server%:*}/${server##*:}"
send() { printf '%s\r\n' "$@" >&3; }

# next asks for one more event, and to be told if none comes in 20 seconds.
next() {
	local request='{"batch":1,"expires":20000000000}'
	send "PUB \$JS.API.CONSUMER.MSG.NEXT.REPRISE.$name _INBOX.mine ${#request}" "$request"
}

# header finds one of the event's headers.
header() { sed -n "s/^$1: *//p" <<<"${headers//$'\r'/}"; }

read -r -u 3 _ # INFO {...}
send "CONNECT {\"verbose\":false,\"headers\":true,\"user\":\"$name\",\"pass\":\"$password\"}"
send "SUB _INBOX.mine 1"
next

while read -r -u 3 verb subject _ rest; do
	case $verb in
	PING*) send PONG ;;
	-ERR*) echo "$verb $subject $rest" >&2 && exit 1 ;;
	HMSG)
		# HMSG subject id [where to acknowledge] length-of-headers length-of-all
		set -- ${rest%$'\r'}
		ack=
		[ $# -lt 3 ] || { ack=$1 && shift; }
		read -r -u 3 -N $(($1)) headers
		read -r -u 3 -N $(($2 - $1)) data || true
		read -r -u 3 _ # the end of the line
		if [ -n "$ack" ]; then
			# The same event may come twice. Its id is its place in the log: 1, 2, 3.
			echo "$(header ce-id) $(header ce-type) $(header ce-subject) ${#data}"
			send "PUB $ack 0" ""
		fi
		next
		;;
	esac
done
echo "the server has closed the connection" >&2
exit 1
