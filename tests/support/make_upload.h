/* SPDX-License-Identifier: MIT */
/*
 * A writer in the test's process: keeps the group's content as a model in memory, and puts real uploads
 * (encoder, manifest) into a store's inbox, over any I/O back end. Fails the test (abort with a message) when
 * it cannot.
 */
#ifndef TESTS_MAKE_UPLOAD_H
#define TESTS_MAKE_UPLOAD_H

#include "sosie/clock.h"
#include "sosie/io.h"
#include "sosie/segment.h"

#define MODEL_VOLUMES 8u

struct model_volume {
	struct sosie_name name;
	uint64_t size;
	uint8_t *bytes;
};
/* What the group holds now at the source. */
struct model {
	char tenant[64], group[64];
	unsigned volume_count;
	struct model_volume volumes[MODEL_VOLUMES];
};
void model_init(struct model *m, const char *tenant, const char *group);
void model_fini(struct model *m);
unsigned model_add(struct model *m, const char *volume, uint64_t size);
void model_remove(struct model *m, unsigned volume);
void model_resize(struct model *m, unsigned volume, uint64_t size);
/* Deep copy, for keeping a point's content. */
void model_copy(struct model *dst, const struct model *src);

/* Bytes to write; NULL data: zeros, sent as a zero record. Applied to the model, then sent as whole leaves.
 */
struct change {
	unsigned volume;
	uint64_t offset, len;
	const void *data;
};
/* How content travels: delta and patch only where the encoder finds them smaller. */
enum make_as { MAKE_DATA, MAKE_PATCH, MAKE_DELTA };
struct make_upload {
	struct sosie_io *io;
	struct sosie_clock *clock;
	const char *store;
	struct model *model;
	const struct change *changes;
	unsigned change_count, parts; /* parts: 0 is 1 */
	struct sosie_digest parent;
	uint64_t epoch;         /* 0: 1 */
	const char *attachment; /* content of an attachment "machine.xml", or NULL */
	bool lie_root;          /* a wrong root for volume 0 */
	bool fuzzy_parent;      /* parent changed in a byte */
	uint64_t flip_at;       /* byte of part 0 to damage when flip is set; beyond the end: nothing */
	bool flip;
	uint64_t plain_less;         /* the manifest counts that many bytes of content less */
	uint64_t claim_part;         /* the manifest's length of part 0; 0: the true one */
	unsigned pad_manifest;       /* spaces behind the manifest */
	struct sosie_signer *signer; /* signs the manifest; NULL: nobody does */
	unsigned empty_attachments;  /* further ones without a byte: a longer manifest, at most 255 */
	enum make_as as;
	bool wrong_basis; /* the model changes a byte more that counts as old: the standby has another */
	/* Results. */
	unsigned patches, deltas; /* records of these kinds */
	struct sosie_upload_id id;
	uint64_t part0_len;
};
void make_upload(struct make_upload *u);
/* The plain roots of the model, as a manifest names them. */
void model_root(const struct model *m, unsigned volume, struct sosie_digest *out);
/* A comparison of the model's whole level-0 blocks against the head: asks all of it, lists what is not zero.
 */
void make_compare(struct make_upload *u);

#endif
