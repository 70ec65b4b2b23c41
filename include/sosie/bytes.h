/* SPDX-License-Identifier: MIT */
/*
 * Bounded reading and writing of bytes that cross a border: no parser sees a raw pointer. All integers are
 * little endian, but those of SSH's own types. A reader or writer that has failed once stays failed, so that
 * a parser may check once at its end.
 */
#ifndef SOSIE_BYTES_H
#define SOSIE_BYTES_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

/* Reads from borrowed memory, which must outlive the reader. */
struct sosie_reader {
	const uint8_t *at;
	size_t left;
	bool failed;
};

void sosie_reader_init(struct sosie_reader *r, const void *data, size_t len);
uint8_t sosie_get_u8(struct sosie_reader *r); /* 0 once failed, like all below */
uint16_t sosie_get_u16(struct sosie_reader *r);
uint32_t sosie_get_u32(struct sosie_reader *r);
uint64_t sosie_get_u64(struct sosie_reader *r);
/* len bytes copied to dst; on failure dst is zeroed. */
void sosie_get_bytes(struct sosie_reader *r, void *dst, size_t len);
/* Borrowed pointer to len bytes inside the input, NULL on failure. */
const void *sosie_get_view(struct sosie_reader *r, size_t len);
/* u32 length then bytes: at most max (fails above), copied to dst[max + 1] with a final NUL; fails on a NUL
 * inside. */
void sosie_get_string(struct sosie_reader *r, char *dst, size_t max);
/* u32 length then bytes, borrowed; at most max. */
const void *sosie_get_blob(struct sosie_reader *r, size_t max, size_t *len);
/* SSH's types (RFC 4251, section 5), big endian: uint32, and string: its length, then bytes, borrowed. */
uint32_t sosie_get_ssh_u32(struct sosie_reader *r);
const void *sosie_get_ssh_string(struct sosie_reader *r, size_t *len);
/* True when nothing failed and nothing is left: how every parser ends. */
bool sosie_reader_done(const struct sosie_reader *r);

/* Writes into borrowed memory of fixed size. */
struct sosie_writer {
	uint8_t *start;
	size_t len, size;
	bool failed;
};

void sosie_writer_init(struct sosie_writer *w, void *data, size_t size);
void sosie_put_u8(struct sosie_writer *w, uint8_t v);
void sosie_put_u16(struct sosie_writer *w, uint16_t v);
void sosie_put_u32(struct sosie_writer *w, uint32_t v);
void sosie_put_u64(struct sosie_writer *w, uint64_t v);
void sosie_put_bytes(struct sosie_writer *w, const void *src, size_t len);
void sosie_put_blob(struct sosie_writer *w, const void *src, size_t len); /* u32 length, bytes */
void sosie_put_string(struct sosie_writer *w, const char *s);
void sosie_put_ssh_u32(struct sosie_writer *w, uint32_t v);
void sosie_put_ssh_string(struct sosie_writer *w, const void *src, size_t len);

/* Sums and products that say no instead of wrapping: true when the result is in *out. */
bool sosie_add_u64(uint64_t a, uint64_t b, uint64_t *out);
bool sosie_mul_u64(uint64_t a, uint64_t b, uint64_t *out);

/* Lower-case hexadecimal, NUL at the end: dst holds 2 * len + 1. */
void sosie_hex(char *dst, const void *src, size_t len);
/* Exactly 2 * len lower-case digits and nothing more; false otherwise. */
bool sosie_unhex(void *dst, size_t len, const char *hex);

/* Base64 (RFC 4648, section 4), padded, NUL at the end: dst holds SOSIE_BASE64_LEN(len) + 1. */
#define SOSIE_BASE64_LEN(len) (((len) + 2) / 3 * 4)
void sosie_base64(char *dst, const void *src, size_t len);
/* Strict: at least one byte, padded to four, no other character, no stray bits, at most size bytes of
 * result; what has been written to dst means nothing when false. */
bool sosie_unbase64(const char *text, size_t len, void *dst, size_t size, size_t *out);

#endif
