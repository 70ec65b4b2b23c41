/* SPDX-License-Identifier: MIT */
/*
 * SHA-256 with meaning bound in (docs/format.md, "Digests"). All digests are 32 bytes; over libcrypto, which
 * only engine/base/digest.c and engine/sign/evp.c include.
 */
#ifndef SOSIE_DIGEST_H
#define SOSIE_DIGEST_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#define SOSIE_DIGEST_LEN 32
#define SOSIE_LEAF 4096u                        /* bytes of a leaf */
#define SOSIE_FANOUT 256u                       /* children of a node */
#define SOSIE_CHUNK (SOSIE_LEAF * SOSIE_FANOUT) /* 1 MiB: what one block of leaves covers */

struct sosie_digest {
	uint8_t b[SOSIE_DIGEST_LEN];
};

bool sosie_digest_equal(const struct sosie_digest *a, const struct sosie_digest *b);
bool sosie_digest_is_zero(const struct sosie_digest *d);

/* Streaming. One object belongs to one thread. _new returns NULL when memory is short. */
struct sosie_hash;
struct sosie_hash *sosie_hash_new(void);
void sosie_hash_free(struct sosie_hash *h);
/* Starts over, with a domain of at most 16 bytes (padded with zeros to 16) as the first input; NULL: no
 * domain, a plain SHA-256 as sha256sum prints it (attachments, whole images). */
void sosie_hash_start(struct sosie_hash *h, const char *domain);
/* Starts over without a domain: plain SHA-256, for attachments and key fingerprints. */
void sosie_hash_plain(struct sosie_hash *h);
void sosie_hash_add(struct sosie_hash *h, const void *data, size_t len);
void sosie_hash_add_u64(struct sosie_hash *h, uint64_t v);     /* little endian */
void sosie_hash_add_text(struct sosie_hash *h, const char *s); /* u64 length, then bytes */
void sosie_hash_end(struct sosie_hash *h, struct sosie_digest *out);

/* Plain SHA-256 in one call; false when memory is short. */
bool sosie_sha256(const void *data, size_t len, struct sosie_digest *out);
/* "SHA256:…", as ssh-keygen -l prints the digest of a key's blob. */
#define SOSIE_FINGERPRINT 64
void sosie_fingerprint(char dst[SOSIE_FINGERPRINT], const struct sosie_digest *of_blob);

/* The meaning of a volume's bytes: digest of ("sosie volume v1", tenant, group, volume). */
void sosie_context_volume(struct sosie_hash *h, const char *tenant, const char *group, const char *volume,
                          struct sosie_digest *out);

/* Leaf: zero digest when all len bytes (1 to 4096) are zero, else H("sosie leaf v1", ctx, index, len, bytes).
 */
void sosie_digest_leaf(struct sosie_hash *h, const struct sosie_digest *ctx, uint64_t index, const void *data,
                       size_t len, struct sosie_digest *out);
/* Node of level 1 and up, over the 256 children of block `index` of the level below: zero when all are. */
void sosie_digest_node(struct sosie_hash *h, const struct sosie_digest *ctx, unsigned level, uint64_t index,
                       const struct sosie_digest children[SOSIE_FANOUT], struct sosie_digest *out);
/* Root of a volume of size bytes: never zero. */
void sosie_digest_root(struct sosie_hash *h, const struct sosie_digest *ctx, uint64_t size,
                       const struct sosie_digest *top, struct sosie_digest *out);

bool sosie_all_zero(const void *data, size_t len);

#endif
