/* SPDX-License-Identifier: MIT */
/*
 * What a tenant may take (docs/operating.md, "Limits of a tenant"): its quota of bytes, and limits on what
 * its sources declare and on how fast they do it. All stand in tenant.json; one that is not there has its
 * default. Who meets one waits or is refused; nobody else notices.
 */
#ifndef SOSIE_QUOTA_H
#define SOSIE_QUOTA_H

#include "sosie/store.h"

enum sosie_limit {
	SOSIE_LIMIT_QUOTA,         /* bytes in the store; refused above */
	SOSIE_LIMIT_SEGMENT,       /* bytes that one segment decodes to, as declared; refused above */
	SOSIE_LIMIT_VOLUME_BYTES,  /* sizes of all volumes together; refused above */
	SOSIE_LIMIT_GROUPS,        /* the first upload of another one waits */
	SOSIE_LIMIT_GROUP_VOLUMES, /* of one group; refused above */
	SOSIE_LIMIT_VOLUMES,       /* of all groups together; refused above */
	SOSIE_LIMIT_POINTS,        /* a minute; uploads wait */
	SOSIE_LIMIT_CPU,           /* seconds of processor time a minute; uploads wait */
	SOSIE_LIMITS
};
const char *sosie_limit_name(enum sosie_limit limit); /* "volume_bytes" */
/* "quota=500G", "points=600", "cpu=none" (*value 0: no limit), "cpu=default" (then *inherit; not for quota).
 * SOSIE_EUSAGE names what is wrong. */
int sosie_limit_parse(const char *text, enum sosie_limit *limit, uint64_t *value, bool *inherit,
                      struct sosie_err *err);
/* The value as people read it: "500 GiB", "600 a minute", "none". Returns dst. */
const char *sosie_limit_text(char *dst, size_t size, enum sosie_limit limit, uint64_t value);

struct sosie_limits {
	uint64_t value[SOSIE_LIMITS]; /* 0: none */
	bool set[SOSIE_LIMITS];       /* false: the default */
};
int sosie_limits_get(struct sosie_store *store, const char *tenant, struct sosie_limits *out,
                     struct sosie_err *err);
/* Writes all that is set but the quota, with an entry in the tenant's audit log before. A keeper goes by it
 * at its next acceptance. The quota is sosie_policy_set's (sosie/retention.h): a smaller one waits. */
int sosie_limits_set(struct sosie_store *store, const char *tenant, const struct sosie_limits *limits,
                     struct sosie_err *err);

/* --- space -------------------------------------------------------------------------------------------------
 */
/* Uploads wait below the reserve, which is what a fold and a cutover need: without reflinks the bytes of the
 * largest working images, and in any case 64 MiB, or a sixty-fourth of a filesystem smaller than 4 GiB. */
struct sosie_space {
	uint64_t free_bytes, total_bytes, reserve_bytes;
};
int sosie_store_space(struct sosie_store *store, struct sosie_space *out, struct sosie_err *err);

/* --- the keeper's ------------------------------------------------------------------------------------------
 */
/* What the store says of itself each second or so: whether a group is late, whether alarms of a tenant are
 * over, whether there is room. Cheap where nothing has changed. */
int sosie_keeper_watch(struct sosie_store *store, const char *tenant, const char *group,
                       struct sosie_err *err);
int sosie_keeper_watch_tenant(struct sosie_store *store, const char *tenant, struct sosie_err *err);
int sosie_keeper_watch_store(struct sosie_store *store, struct sosie_err *err);
/* The whole of the metrics file (docs/operating.md, "Alarms at the standby"); malloc'd. Counts since this
 * process began. */
int sosie_keeper_metrics(struct sosie_store *store, char **text, size_t *len, struct sosie_err *err);

#endif
