/* SPDX-License-Identifier: MIT */
/*
 * Records, parts and manifests (docs/format.md, "Segment"). Encoder and decoder are the two ends of the same
 * format: what one writes the other takes back to the byte or refuses. zstd is confined to
 * engine/delta/zstd.c.
 */
#ifndef SOSIE_SEGMENT_H
#define SOSIE_SEGMENT_H

#include "sosie/digest.h"
#include "sosie/err.h"
#include "sosie/json.h"
#include "sosie/names.h"

#define SOSIE_RECORD_PLAIN_MAX (1u << 20)
#define SOSIE_RECORD_RANGES_MAX 256u
#define SOSIE_RECORD_HEADER 48u
#define SOSIE_RANGE_BYTES 16u
#define SOSIE_RECORD_MAX                                                                                     \
	(SOSIE_RECORD_HEADER + SOSIE_RECORD_RANGES_MAX * SOSIE_RANGE_BYTES + SOSIE_RECORD_PLAIN_MAX)
#define SOSIE_VOLUMES_MAX 256u
#define SOSIE_PARTS_MAX 4096u
#define SOSIE_ATTACHMENTS_MAX 256u
#define SOSIE_ATTACHMENTS_BYTES (64u << 20)
#define SOSIE_MANIFEST_MAX (1u << 20) /* its signature included, where it has one (sosie/sign.h) */

enum sosie_record_kind {
	SOSIE_RECORD_DATA = 1,
	SOSIE_RECORD_ZERO = 2,
	SOSIE_RECORD_DISCARD = 3,
	SOSIE_RECORD_PATCH = 4, /* zstd with the previous content of the same ranges as prefix */
	SOSIE_RECORD_DELTA = 5, /* librsync delta against the previous content of one chunk */
	SOSIE_RECORD_ATTACHMENT = 6,
};

struct sosie_range {
	uint64_t leaf;   /* first leaf */
	uint32_t leaves; /* number of leaves, at least 1 */
	uint16_t volume; /* index in the manifest's list */
};

/* What a decoder needs to know of a volume to check and place a range. */
struct sosie_extent_volume {
	struct sosie_digest ctx;
	uint64_t size; /* bytes */
};

struct sosie_record {
	enum sosie_record_kind kind;
	uint8_t encoding;
	uint16_t range_count;
	uint32_t plain_len, payload_len;
	struct sosie_digest digest;
	struct sosie_range ranges[SOSIE_RECORD_RANGES_MAX];
};

/* Bytes of content that a range stands for: leaves * 4096, less at the volume's end. The range must lie
 * inside. */
uint64_t sosie_range_bytes(const struct sosie_range *range, uint64_t volume_size);

/* Group context. */
void sosie_context_group(struct sosie_hash *h, const char *tenant, const char *group,
                         struct sosie_digest *out);

/* --- encoding. One encoder belongs to one thread; about 3 MiB each, 5 when it makes patches (more above
 * level 4).
 * ------------------------------------------------- */
struct sosie_encoder;
/* level: zstd's, -7 to 19 without 0. */
int sosie_encoder_new(const struct sosie_digest *group_ctx, int level, struct sosie_encoder **out,
                      struct sosie_err *err);
/* From the next record on. */
void sosie_encoder_level(struct sosie_encoder *enc, int level);
void sosie_encoder_free(struct sosie_encoder *enc);
/* One data record of `count` ranges; leaf digests as computed by the caller, in order; plain: the content,
 * one range after the other, plain_len bytes. *out and *len: the record's bytes, valid until the next call.
 * zstd where it saves at least 1/16, else raw. */
int sosie_encode_data(struct sosie_encoder *enc, const struct sosie_range *ranges, unsigned count,
                      const struct sosie_digest *leaves, const void *plain, size_t plain_len,
                      const void **out, size_t *len, struct sosie_err *err);
/* As sosie_encode_data; old: the content of the same ranges at the parent point, plain_len bytes (zeros past
 * the end that the volume had). The smaller of patch and data is written; *kind says which (may be NULL). */
int sosie_encode_patch(struct sosie_encoder *enc, const struct sosie_range *ranges, unsigned count,
                       const struct sosie_digest *leaves, const void *plain, size_t plain_len,
                       const void *old, const void **out, size_t *len, enum sosie_record_kind *kind,
                       struct sosie_err *err);
/* As sosie_encode_data; all ranges in one chunk of one volume; delta: what rdiff_delta (engine/delta/rdiff.h)
 * made of plain. The smaller of delta and data is written. */
int sosie_encode_delta(struct sosie_encoder *enc, const struct sosie_range *ranges, unsigned count,
                       const struct sosie_digest *leaves, const void *plain, size_t plain_len,
                       const void *delta, size_t delta_len, const void **out, size_t *len,
                       struct sosie_err *err);
/* One zero or discard record. */
int sosie_encode_zero(struct sosie_encoder *enc, enum sosie_record_kind kind,
                      const struct sosie_range *ranges, unsigned count, const void **out, size_t *len,
                      struct sosie_err *err);
/* One attachment record: at most 1 MiB - 12 bytes of data. */
int sosie_encode_attachment(struct sosie_encoder *enc, uint32_t index, uint64_t offset, const void *data,
                            size_t data_len, const void **out, size_t *len, struct sosie_err *err);

/* --- decoding: the input is hostile
 * ------------------------------------------------------------------------------- */
/* Parses a header and its ranges from the first SOSIE_RECORD_HEADER bytes (ranges NULL) to learn lengths;
 * then whole. */
int sosie_record_lengths(const void *header, uint32_t *ranges_len, uint32_t *payload_len,
                         struct sosie_err *err);
/* Header and ranges together; volumes: as the manifest declares them. Checks everything that can be checked
 * without the payload. */
int sosie_record_parse(const void *bytes, size_t len, const struct sosie_extent_volume *volumes,
                       unsigned volume_count, struct sosie_record *out, struct sosie_err *err);

struct sosie_decoder;
int sosie_decoder_new(const struct sosie_digest *group_ctx, struct sosie_decoder **out,
                      struct sosie_err *err);
void sosie_decoder_free(struct sosie_decoder *dec);
/* The ranges whose content at that place in the segment a patch or delta needs (patch: its own; delta: its
 * chunk, one range, cut at the volume's end), and how many bytes that is, at most 1 MiB. 0: the record needs
 * none. At most SOSIE_RECORD_RANGES_MAX ranges. The volume has the new size already; what it did not have
 * before reads as zeros. */
unsigned sosie_record_basis(const struct sosie_record *record, const struct sosie_extent_volume *volumes,
                            struct sosie_range ranges[SOSIE_RECORD_RANGES_MAX], size_t *bytes);
/* basis: that content, one range after the other; NULL where sosie_record_basis says 0.
 * Decodes the payload of a data, patch or delta record into plain (record.plain_len bytes), computes the leaf
 * digests into leaves (at most 512 of them: 256 ranges with a short leaf each still fit 1 MiB) and compares
 * the record digest. For zero and discard only the digest is checked; for attachments plain gets the payload.
 * SOSIE_ECORRUPT otherwise. *leaf_count may be NULL.
 * All in this process: the keeper has payloads unpacked in children and does only the rest itself
 * (engine/store/decoders.c); this is what tests compare that with. */
int sosie_decode(struct sosie_decoder *dec, const struct sosie_record *record, const void *payload,
                 const void *basis, const struct sosie_extent_volume *volumes, void *plain,
                 struct sosie_digest *leaves, unsigned *leaf_count, struct sosie_err *err);
/* The fields of an attachment's payload; data borrowed. */
int sosie_attachment_parse(const void *plain, size_t len, uint32_t *index, uint64_t *offset,
                           const void **data, size_t *data_len, struct sosie_err *err);

/* --- the part chain
 * ----------------------------------------------------------------------------------------------- */
void sosie_part_start(struct sosie_hash *h, const struct sosie_digest *group_ctx, uint32_t part,
                      struct sosie_digest *chain);
void sosie_part_link(struct sosie_hash *h, const void *record, size_t len, struct sosie_digest *chain);

/* --- manifests
 * ---------------------------------------------------------------------------------------------------- */
enum sosie_manifest_kind { SOSIE_MANIFEST_SEGMENT, SOSIE_MANIFEST_COMPARE };
enum sosie_consistency { SOSIE_CONSISTENCY_CRASH, SOSIE_CONSISTENCY_APP, SOSIE_CONSISTENCY_FUZZY };

struct sosie_manifest_volume {
	struct sosie_name name;
	uint64_t size;
	struct sosie_digest root; /* zero in a comparison */
};
struct sosie_manifest_part {
	uint64_t length;
	uint64_t records;
	struct sosie_digest digest;
};
struct sosie_manifest_attachment {
	struct sosie_name name;
	uint64_t size;
	struct sosie_digest sha256; /* plain SHA-256 of its bytes, as sha256sum prints */
};
struct sosie_manifest_ask {
	uint16_t volume, level;
	uint64_t first, count; /* blocks */
};
struct sosie_manifest {
	enum sosie_manifest_kind kind;
	struct sosie_name tenant, group;
	uint64_t epoch;
	struct sosie_digest parent;
	int64_t cut_ms;          /* the source's wall clock */
	int64_t standby_at_ms;   /* the standby's clock in its last message, 0 when none */
	int64_t standby_plus_ms; /* from there to the cut, may be negative */
	enum sosie_consistency consistency;
	unsigned volume_count, attachment_count, part_count, ask_count;
	struct sosie_manifest_volume *volumes;         /* owned */
	struct sosie_manifest_attachment *attachments; /* owned */
	struct sosie_manifest_part *parts;             /* owned */
	struct sosie_manifest_ask *asks;               /* owned */
	uint64_t plain, data, zero, discard;
	char software[64];
};

/* Parses hostile bytes, every bound of format.md checked (names, counts, sizes, sums, level and block ranges
 * of asks, no volume or attachment twice, at least one volume, data == bytes of data records <= plain …).
 * _fini frees the lists; safe on a zeroed struct. */
int sosie_manifest_parse(const void *text, size_t len, struct sosie_manifest *out, struct sosie_err *err);
void sosie_manifest_fini(struct sosie_manifest *m);
/* malloc'd text. */
int sosie_manifest_text(const struct sosie_manifest *m, char **out, size_t *len, struct sosie_err *err);
void sosie_manifest_digest(struct sosie_hash *h, const void *text, size_t len, struct sosie_digest *out);
/* Of all that was committed, signature included: what a verdict names. */
void sosie_commit_digest(struct sosie_hash *h, const void *bytes, size_t len, struct sosie_digest *out);
const char *sosie_consistency_name(enum sosie_consistency c);

/* --- statements: what the standby's keeper says, relayed by receivers as opaque bytes
 * ------------------------------------- */
#define SOSIE_STATEMENT_MAX (64u << 10)

struct sosie_store_id {
	uint8_t b[16];
};
struct sosie_upload_id {
	uint8_t b[16];
};
struct sosie_head {
	struct sosie_store_id store;
	struct sosie_name tenant, group;
	uint64_t epoch, point;        /* point 0: none yet */
	struct sosie_digest digest;   /* of the newest chain entry of kind point or epoch, or the genesis */
	struct sosie_digest manifest; /* of the newest point's manifest; zero when none */
	int64_t time_ms;              /* standby's clock */
	unsigned volume_count;
	struct {
		struct sosie_name name;
		uint64_t size;
	} volumes[SOSIE_VOLUMES_MAX];
};
enum sosie_verdict_kind {
	SOSIE_VERDICT_ACCEPTED,
	SOSIE_VERDICT_REFUSED,
	SOSIE_VERDICT_WAITING,
	SOSIE_VERDICT_DIFFERS
};
struct sosie_verdict {
	enum sosie_verdict_kind kind;
	struct sosie_upload_id upload;
	struct sosie_digest committed; /* of what was committed (sosie_commit_digest): a word about another
	                                  upload, or about other bytes under its name, is seen as one; zero
	                                  when it is not said */
	int64_t time_ms;
	struct sosie_head head; /* accepted, differs */
	struct sosie_err error; /* refused, waiting */
};
int sosie_head_parse(const void *text, size_t len, struct sosie_head *out, struct sosie_err *err);
int sosie_head_text(const struct sosie_head *head, char **out, size_t *len, struct sosie_err *err);
int sosie_verdict_parse(const void *text, size_t len, struct sosie_verdict *out, struct sosie_err *err);
int sosie_verdict_text(const struct sosie_verdict *v, char **out, size_t *len, struct sosie_err *err);

/* --- comparison entries
 * ---------------------------------------------------------------------------------------------- */
#define SOSIE_COMPARE_ENTRY (16u + SOSIE_FANOUT * SOSIE_DIGEST_LEN)
#define SOSIE_DIFFERS_ENTRY 48u
struct sosie_compare_entry {
	uint16_t volume, level;
	uint64_t block;
	struct sosie_digest children[SOSIE_FANOUT];
};
struct sosie_differs_entry {
	uint16_t volume, level;
	uint64_t block;
	uint8_t bitmap[32];
};
void sosie_compare_put(uint8_t out[SOSIE_COMPARE_ENTRY], const struct sosie_compare_entry *e);
int sosie_compare_get(const uint8_t in[SOSIE_COMPARE_ENTRY], struct sosie_compare_entry *e,
                      struct sosie_err *err);
void sosie_differs_put(uint8_t out[SOSIE_DIFFERS_ENTRY], const struct sosie_differs_entry *e);
int sosie_differs_get(const uint8_t in[SOSIE_DIFFERS_ENTRY], struct sosie_differs_entry *e,
                      struct sosie_err *err);

#endif
