/* Exact decimals: 128-bit integers of 10^-9, never a float. What a quantity is from the record to PostgreSQL.
 */
#ifndef UB_DECIMAL_H
#define UB_DECIMAL_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

typedef __int128 decimal_t; /* units of 10^-9 */

enum { DECIMAL_DIGITS = 9 };      /* after the point */
enum { DECIMAL_TEXT_BYTES = 48 }; /* enough for any decimal_t as text, NUL included */
enum {
    DECIMAL_NUMERIC_BYTES = 8 + 2 * 14
}; /* enough for any decimal_t as binary numeric, without its length word */

#define DECIMAL_ONE ((decimal_t)1000000000)
/* Quantities are smaller in magnitude: 10^20. */
#define DECIMAL_LIMIT (DECIMAL_ONE * (decimal_t)10000000000 * (decimal_t)10000000000)

enum decimal_error {
    DECIMAL_OK,
    DECIMAL_NOT_A_NUMBER, /* not a number by JSON's grammar */
    DECIMAL_TOO_PRECISE,  /* more than 9 significant digits after the point */
    DECIMAL_TOO_LARGE     /* magnitude of 10^20 or more */
};

/* Reads a number in JSON's grammar (sign, digits, fraction, exponent; trailing zeros are free: 1.5000000000e1
 * is 15). Bounded time whatever the exponent. */
enum decimal_error decimal_parse(const char *bytes, size_t length, decimal_t *out);

/* Adds; false and *sum untouched on overflow of 128 bits. */
bool decimal_add(decimal_t *sum, decimal_t more);

/* The shortest exact text: "12450", "-0.5". Returns its length; text is NUL-terminated. */
size_t decimal_text(decimal_t value, char text[DECIMAL_TEXT_BYTES]);

/* PostgreSQL's binary numeric (ndigits, weight, sign, dscale, base-10000 digits; network order), dscale 9, as
 * numeric_send writes it. Returns its length in bytes. Source: PostgreSQL src/backend/utils/adt/numeric.c. */
size_t decimal_numeric(decimal_t value, uint8_t out[DECIMAL_NUMERIC_BYTES]);

/* The way back. False if it is no finite numeric that fits. */
bool decimal_from_numeric(const uint8_t *bytes, size_t length, decimal_t *out);

#endif
