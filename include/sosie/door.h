/* SPDX-License-Identifier: MIT */
/*
 * The two sides of the door at the standby: receivers put uploads in and read answers, the keeper owns the
 * rest. They are apart when they run as different users: the keeper's is the owner of the store's folder, the
 * receivers' is one for each tenant, with a group of its own, and stands in tenant.json.
 *
 *   STORE                 keeper             0711   others pass, and do not list
 *   STORE/sosie.json      keeper             0644
 *   STORE/standby.pub     keeper             0644
 *   STORE/_private        keeper             0700   the standby's key in it: 0600
 *   STORE/_audit, STORE/TENANT/_audit
 *                         keeper             0700
 *   STORE/keeper.lock     keeper             0640   who can open it can hold it
 *   STORE/TENANT          keeper:receivers   0750
 *   STORE/TENANT/_inbox   receivers:keeper   2770   what a receiver makes below gets the keeper's group
 *     notify              keeper:receivers   0660   FIFO
 *     GROUP/, its files   receivers:keeper   2770, 0660
 *   STORE/TENANT/_outbox, _keys and GROUP/ in _outbox
 *                         keeper:receivers   2750   what the keeper makes below gets the receivers' group
 *     their files         keeper:receivers   0640
 *   STORE/TENANT/GROUP    keeper             0700
 *
 * So neither is in the other's group: a tenant that is added needs no restart of the keeper.
 */
#ifndef SOSIE_DOOR_H
#define SOSIE_DOOR_H

#include "sosie/store.h"

#define SOSIE_USER_MAX 32u

/* As sosie_tenant_add, for receivers that run as user (NULL: as the keeper). Only writes the name down:
 * owners and modes are set by sosie_store_check with mend, as root. */
int sosie_tenant_add_user(struct sosie_store *store, const char *tenant, uint64_t quota, const char *user,
                          struct sosie_err *err);
/* For a tenant that has none yet. SOSIE_EEXISTS: it has another one. */
int sosie_tenant_set_user(struct sosie_store *store, const char *tenant, const char *user,
                          struct sosie_err *err);
/* Empty: receivers run as the keeper. */
int sosie_tenant_user(struct sosie_store *store, const char *tenant, char user[SOSIE_USER_MAX + 1],
                      struct sosie_err *err);

struct sosie_finding {
	const char *code; /* what is wrong: one word, never renamed (docs/operating.md) */
	const char *path; /* the file or folder, or the user's name */
	const char *what; /* a sentence without its full stop */
	const char *mend; /* the command that mends it, or what to do */
	bool mended;
};
struct sosie_check {
	/* Given. */
	const char *tenant; /* only this tenant's side; NULL: the store's folder and all tenants */
	bool mend;          /* set owners, groups and modes as they are meant; needs root */
	void (*found)(void *arg, const struct sosie_finding *finding); /* its texts are borrowed */
	void *arg;
	/* Results. */
	uint64_t looked;   /* files and folders */
	uint64_t findings; /* those that are left */
	uint64_t mended;
	unsigned tenants, users; /* looked at; of those, with a user of their own */
};
/*
 * Compares owners, groups, modes, kinds and numbers of names with the table above: in the store's folder,
 * each tenant's, and each group's folders and files. Where receivers run as the keeper, only what lets others
 * in is found, and that it is so. Of cut-over images (live) only the folder is looked at: they are the
 * operator's. Links are never followed, and mending goes through descriptors, so that whoever may write
 * somewhere below cannot make it reach elsewhere. Needs a real disk. 0 also when something was found.
 */
int sosie_store_check(struct sosie_store *store, struct sosie_check *check, struct sosie_err *err);

#endif
