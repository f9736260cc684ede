#!/usr/bin/env bash
# Certificates for a private Kafka and PostgreSQL on 127.0.0.1, for trying TLS out; not for production: the CA's key lies
# beside them. `SECURE=1 deploy/stack.sh start DIR` makes them in DIR/tls.
#
#   deploy/certificates.sh DIR
#
#   ca.pem          who signs all the others
#   stranger.pem    another CA, that has signed nothing here but stranger-client
#   kafka.pem, postgres.key, postgres.pem        of the servers, for 127.0.0.1 and by no other name
#   expired.pem, expired.key, expired-kafka.pem  for 127.0.0.1, too, and expired yesterday
#   NAME.key, NAME.pem   of the clients usagebox, usagebox_app, usagebox_admin, stranger-client
#
# kafka.pem and expired-kafka.pem hold key and certificate: Kafka's brokers read both from one file.
set -euo pipefail

dir=${1:?usage: certificates.sh DIR}
mkdir -p "$dir"
cd "$dir"
umask 077

curve=(-newkey ec -pkeyopt ec_paramgen_curve:prime256v1 -nodes)

authority() {
    openssl req -x509 "${curve[@]}" -keyout "$1.key" -out "$1.pem" -days 3650 -subj "/CN=$1 of a private stack" 2>/dev/null
}

# certificate NAME CA DAYS EXTENSION: of CN=NAME
certificate() {
    openssl req "${curve[@]}" -keyout "$1.key" -out "$1.request" -subj "/CN=$1" 2>/dev/null
    openssl x509 -req -in "$1.request" -CA "$2.pem" -CAkey "$2.key" -days "$3" -extfile <(echo "$4") -out "$1.pem" 2>/dev/null
    rm "$1.request"
}

server='subjectAltName=IP:127.0.0.1'
client='extendedKeyUsage=clientAuth'
authority ca
authority stranger
certificate postgres ca 3650 "$server"
certificate broker ca 3650 "$server"
certificate expired ca -1 "$server"
for name in usagebox usagebox_app usagebox_admin; do certificate "$name" ca 3650 "$client"; done
certificate stranger-client stranger 3650 "$client"
cat broker.key broker.pem >kafka.pem
cat expired.key expired.pem >expired-kafka.pem
rm broker.key broker.pem
