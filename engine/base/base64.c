/* SPDX-License-Identifier: MIT */
/* Base64. Reading takes one form only, so that equal bytes have equal texts. The digits are found by
 * arithmetic, not by a table: private keys pass here, and a table's cache lines tell which digits were read.
 */
#include <string.h>

#include "sosie/bytes.h"

/* 0xff.. when a <= b, else 0; both below 256. */
static unsigned not_above(unsigned a, unsigned b)
{
	return 0u - ((a - b - 1) >> 31);
}

static unsigned between(unsigned c, char first, char last)
{
	return not_above((unsigned char)first, c) & not_above(c, (unsigned char)last);
}

/* 0 to 63. */
static char digit_of(unsigned v)
{
	unsigned c = v + 'A';

	c += ~not_above(v, 25) & (unsigned)('a' - 'Z' - 1);
	c += ~not_above(v, 51) & (unsigned)('0' - 'z' - 1);
	c += ~not_above(v, 61) & (unsigned)('+' - '9' - 1);
	c += ~not_above(v, 62) & (unsigned)('/' - '+' - 1);
	return (char)c;
}

/* Above 63 when it is no digit. */
static unsigned value_of(char digit)
{
	const unsigned c = (unsigned char)digit;
	const unsigned upper = between(c, 'A', 'Z'), lower = between(c, 'a', 'z'),
	               number = between(c, '0', '9'), plus = between(c, '+', '+'),
	               slash = between(c, '/', '/');

	return (upper & (c - 'A')) | (lower & (c - 'a' + 26)) | (number & (c - '0' + 52)) | (plus & 62) |
	       (slash & 63) | (~(upper | lower | number | plus | slash) & 64);
}

void sosie_base64(char *dst, const void *src, size_t len)
{
	const uint8_t *s = src;

	for (size_t i = 0; i < len; i += 3) {
		const size_t have = len - i < 3 ? len - i : 3;
		const uint32_t v = (uint32_t)s[i] << 16 | (have > 1 ? (uint32_t)s[i + 1] << 8 : 0) |
		                   (have > 2 ? s[i + 2] : 0u);

		for (size_t k = 0; k < 4; k++)
			*dst++ = (char)(k <= have ? digit_of(v >> (18 - 6 * k) & 63) : '=');
	}
	*dst = '\0';
}

/* Four digits, the last pad of them padding, to three bytes less pad. */
static bool read_four(const char *text, size_t pad, uint8_t *dst)
{
	uint32_t v = 0;
	unsigned bad = 0;

	for (size_t k = 0; k < 4; k++) {
		unsigned d = k < 4 - pad ? value_of(text[k]) : 0;

		bad |= d;
		v = v << 6 | (d & 63);
	}
	for (size_t k = 0; k < 3 - pad; k++)
		dst[k] = (uint8_t)(v >> (16 - 8 * k));
	return bad < 64 && (v & ((1u << (8 * pad)) - 1)) == 0;
}

bool sosie_unbase64(const char *text, size_t len, void *dst, size_t size, size_t *out)
{
	uint8_t *d = dst;
	size_t pad = 0, total;

	*out = 0;
	if (len == 0 || len % 4 != 0)
		return false;
	while (pad < 2 && text[len - 1 - pad] == '=')
		pad++;
	total = len / 4 * 3 - pad;
	if (total > size)
		return false;
	for (size_t i = 0; i < len; i += 4, d += 3)
		if (!read_four(text + i, i + 4 == len ? pad : 0, d))
			return false;
	*out = total;
	return true;
}
