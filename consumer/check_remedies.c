/* What to do about a connection that can't be had. librdkafka, libpq and OpenSSL say why in words alone; the
 * first row whose words occur is taken. */
#include <string.h>

#include "check.h"

struct remedy {
    const char *words;
    const char *what_to_do;
};

#define OWN_CERTIFICATE                                                                                      \
    "the broker wants a certificate of ours: ssl.certificate.location and ssl.key.location in "              \
    "kafka.properties must name one that its CA signed and that is in date"
#define LISTENER                                                                                             \
    "set security.protocol in kafka.properties as this listener has it (PLAINTEXT, SSL, SASL_PLAINTEXT or "  \
    "SASL_SSL), or name the port of another listener"

static const struct remedy of_kafka[] = {
    {"certificate verify failed", "ssl.ca.location in kafka.properties must name the CA that signed the "
                                  "broker's certificate; it must be in date, "
                                  "and be for the host by the name that kafka.bootstrap_servers and the "
                                  "broker's advertised.listeners give: "
                                  "openssl s_client -connect HOST:PORT -CAfile CA shows it"},
    {"alert bad certificate", OWN_CERTIFICATE},
    {"alert certificate", OWN_CERTIFICATE},
    {"alert unknown ca", OWN_CERTIFICATE},
    {"ssl.ca.location failed",
     "ssl.ca.location must name a file that this user may read, with certificates as PEM"},
    {"ssl.certificate.location failed",
     "ssl.certificate.location must name a file that this user may read, with our certificate as PEM"},
    {"ssl.key.location failed", "ssl.key.location must name a file that this user may read, with the key of "
                                "ssl.certificate.location as PEM; "
                                "ssl.key.password opens one that is encrypted"},
    {"Unsupported SASL mechanism", "set sasl.mechanism in kafka.properties to one that the broker supports"},
    {"SASL authentication error", "check sasl.username and sasl.password in kafka.properties; "
                                  "USAGEBOX_KAFKA_PROPERTIES_SASL_PASSWORD_FILE may name "
                                  "a file with the password"},
    {"security.protocol", LISTENER},
    {"in state SSL_HANDSHAKE", LISTENER},
    {"", "check the address, and security.protocol, sasl.* and ssl.* in kafka.properties"},
};

#define OUR_CERTIFICATE                                                                                      \
    "sslcert and sslkey in the DSN must name a certificate that the server's CA signed, that is in date "    \
    "and "                                                                                                   \
    "that pg_hba.conf takes for this user"
#define PASSWORD                                                                                             \
    "put the user's password into the DSN, best by USAGEBOX_POSTGRES_DSN_FILE or "                           \
    "USAGEBOX_POSTGRES_OWNER_DSN_FILE, "                                                                     \
    "or into the file that PGPASSFILE names, which nobody else may read"

static const struct remedy of_postgres[] = {
    {"certificate verify failed",
     "sslrootcert in the DSN must name the CA that signed the server's certificate, which must be in date: "
     "openssl s_client -starttls postgres -connect HOST:PORT -CAfile CA shows it"},
    {"root certificate file",
     "sslrootcert in the DSN must name the file of the CA that signed the server's certificate"},
    {"does not match host name",
     "name the server in the DSN as its certificate does, or have one made for this name"},
    {"server does not support SSL", "set ssl = on in postgresql.conf; sslmode in the DSN insists on TLS"},
    {"client certificate", OUR_CERTIFICATE},
    {"certificate authentication failed", OUR_CERTIFICATE},
    {"SSL error: ", OUR_CERTIFICATE},
    {"no encryption",
     "set sslmode=verify-full and sslrootcert in the DSN: the server lets this user in by TLS only"},
    {"no pg_hba.conf entry",
     "add a line for this user, database and address to pg_hba.conf, or name others in the DSN"},
    {"password authentication failed", PASSWORD},
    {"no password supplied", PASSWORD},
    {"", "check host, port, user, password and database: psql must get in with the same"},
};

static const struct remedy of_groups[] = {
    {"uthorization failed", "allow this user Read and Describe on the group"},
    {"oordinator",
     "brokers that have just started answer so for a while: try again, or give them longer with --timeout"},
    {"imed out", "brokers that have just started answer late: try again, or give them longer with --timeout"},
    {"", "allow this user Read and Describe on the group, and look into the brokers' logs"},
};

/* The last row's words occur everywhere. */
static const char *find(const struct remedy *remedy, const char *error)
{
    while (!strstr(error, remedy->words))
        remedy++;
    return remedy->what_to_do;
}

const char *check_kafka_remedy(const char *error)
{
    return find(of_kafka, error);
}

const char *check_group_remedy(const char *error)
{
    return find(of_groups, error);
}

const char *check_postgres_remedy(const char *error)
{
    return find(of_postgres, error);
}
