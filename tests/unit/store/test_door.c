/* SPDX-License-Identifier: MIT */
/*
 * The two sides of the door: who a tenant's receivers are, what store check finds and mends, and what mending
 * must never reach. On a real folder; owners need root. Keeper and receivers are users that every system has.
 */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <sys/xattr.h>
#include <unistd.h>

#include <cmocka.h>

#include <pwd.h>

#include "engine/store/core.h"
#include "engine/store/door.h"
#include "sosie/audit.h"
#include "sosie/door.h"
#include "tests/unit/store/lab.h"

#define KEEPER "daemon"
#define RECEIVERS "games"

struct place {
	char dir[64], store_path[96];
	struct sosie_io *io;
	struct sosie_store *store;
	uid_t keeper, user;
	gid_t keeper_group, group;
	/* What was found last. */
	unsigned count, mended, acls;
	char code[32], path[512], mend[1024];
	struct sosie_err err;
};

static const char *at(const struct place *p, const char *name)
{
	static char path[4][512];
	static unsigned next;
	next = (next + 1) % 4;
	snprintf(path[next], sizeof(path[next]), "%s/%s", p->store_path, name);
	return path[next];
}

static void put(const struct place *p, const char *name)
{
	FILE *f = fopen(at(p, name), "w");
	assert_non_null(f);
	fputs("x", f);
	assert_int_equal(fclose(f), 0);
	assert_int_equal(chmod(at(p, name), 0640), 0);
}

/* A store with the tenant acme, whose group erp has one image, as a keeper and a receiver would have made it,
 * before anybody set the sides apart. */
static void place_init(struct place *p, const char *user)
{
	static const char *const folders[] = {
	        "acme/_inbox/erp",      "acme/_outbox/erp", "acme/erp",
	        "acme/erp/journal",     "acme/erp/head",    "acme/erp/chain",
	        "acme/erp/generations", "acme/erp/live",    "acme/erp/generations/1"};
	memset(p, 0, sizeof(*p));
	umask(0022);
	snprintf(p->dir, sizeof(p->dir), "/tmp/sosie-check.XXXXXX");
	assert_non_null(mkdtemp(p->dir));
	assert_int_equal(chmod(p->dir, 0755), 0);
	snprintf(p->store_path, sizeof(p->store_path), "%s/store", p->dir);
	OK(p, sosie_io_posix(&p->io, &p->err));
	OK(p, sosie_store_init(p->io, sosie_clock_real(), p->store_path, &p->err));
	OK(p, sosie_store_open(p->io, sosie_clock_real(), p->store_path, &p->store, &p->err));
	OK(p, sosie_tenant_add_user(p->store, "acme", 0, user, &p->err));
	for (size_t i = 0; i < sizeof(folders) / sizeof(folders[0]); i++)
		assert_int_equal(mkdir(at(p, folders[i]), 0700), 0);
	put(p, "acme/_inbox/erp/00000000000000000000000000000001.0");
	put(p, "acme/_outbox/erp/head");
	put(p, "acme/erp/journal/1.seg");
	put(p, "acme/erp/head/erp.raw");
	put(p, "acme/erp/generations/1/erp.raw");
	put(p, "acme/_keys/0123456789abcdef.json");
}

static void place_fini(struct place *p)
{
	sosie_store_close(p->store);
	OK(p, sosie_io_remove_tree(p->io, p->dir, &p->err));
	sosie_io_free(p->io);
}

/* With users of the machine; false where this process cannot give files away. */
static bool place_apart(struct place *p)
{
	const struct passwd *user = getpwnam(RECEIVERS);
	if (geteuid() != 0 || !user || !getpwnam(KEEPER)) {
		printf("needs root, and the users " KEEPER " and " RECEIVERS "\n");
		return false;
	}
	place_init(p, RECEIVERS);
	user = getpwnam(RECEIVERS);
	p->user = user->pw_uid;
	p->group = user->pw_gid;
	user = getpwnam(KEEPER);
	p->keeper = user->pw_uid;
	p->keeper_group = user->pw_gid;
	assert_int_equal(chown(p->store_path, p->keeper, p->keeper_group), 0);
	return true;
}

static void keep(void *arg, const struct sosie_finding *f)
{
	struct place *p = arg;
	if (f->mended) {
		p->mended++;
		return;
	}
	p->count++;
	p->acls += strcmp(f->code, "acl") == 0;
	snprintf(p->code, sizeof(p->code), "%s", f->code);
	snprintf(p->path, sizeof(p->path), "%s", f->path);
	snprintf(p->mend, sizeof(p->mend), "%s", f->mend);
	assert_true(f->what[0] && f->mend[0]);
}

static void check(struct place *p, const char *tenant, bool mend)
{
	struct sosie_check c = {.tenant = tenant, .mend = mend, .found = keep, .arg = p};
	p->count = p->mended = p->acls = 0;
	p->code[0] = p->path[0] = '\0';
	OK(p, sosie_store_check(p->store, &c, &p->err));
	assert_int_equal(c.findings, p->count);
	assert_int_equal(c.mended, p->mended);
	assert_true(c.looked >= 10);
	assert_int_equal(c.tenants, 1);
}

static void expect_clean(struct place *p)
{
	check(p, NULL, false);
	if (p->count)
		fail_msg("%u findings, the last: %s of %s: %s", p->count, p->code, p->path, p->mend);
}

static void assert_is(const struct place *p, const char *name, uid_t uid, gid_t gid, mode_t mode)
{
	struct stat st;
	assert_int_equal(lstat(at(p, name), &st), 0);
	if (st.st_uid != uid || st.st_gid != gid || (st.st_mode & 07777) != mode)
		fail_msg("%s is of %u:%u with mode %04o, meant is %u:%u %04o", name, st.st_uid, st.st_gid,
		         st.st_mode & 07777, uid, gid, mode);
}

/* --- the user's name
 * -------------------------------------------------------------------------------------------- */

static void test_tenant_user_is_kept_and_never_exchanged(void **state)
{
	struct place p;
	char user[SOSIE_USER_MAX + 1];
	struct sosie_tenant_info info;
	(void)state;
	place_init(&p, NULL);
	OK(&p, sosie_tenant_user(p.store, "acme", user, &p.err));
	assert_string_equal(user, "");
	OK(&p, sosie_tenant_set_user(p.store, "acme", "sosie-acme", &p.err));
	OK(&p, sosie_tenant_set_user(p.store, "acme", "sosie-acme", &p.err));
	OK(&p, sosie_tenant_user(p.store, "acme", user, &p.err));
	assert_string_equal(user, "sosie-acme");
	assert_int_equal(sosie_tenant_set_user(p.store, "acme", "other", &p.err), -SOSIE_EEXISTS);
	OK(&p, sosie_tenant_add_user(p.store, "two", 77, "b_2", &p.err));
	OK(&p, sosie_tenant_info(p.store, "two", &info, &p.err));
	assert_int_equal(info.quota, 77);
	place_fini(&p);
}

static void test_tenant_user_with_a_bad_name_is_refused(void **state)
{
	static const char *const bad[] = {"",     "-a",  "a b", "a;b",
	                                  "../x", "a:b", "1a",  "a23456789012345678901234567890123"};
	struct place p;
	char user[SOSIE_USER_MAX + 1], text[200];
	(void)state;
	place_init(&p, NULL);
	for (size_t i = 0; i < sizeof(bad) / sizeof(bad[0]); i++) {
		assert_int_equal(sosie_tenant_add_user(p.store, "two", 0, bad[i], &p.err), -SOSIE_ENAME);
		assert_int_equal(sosie_tenant_set_user(p.store, "acme", bad[i], &p.err),
		                 bad[i][0] ? -SOSIE_ENAME : 0); /* no user is what it has */
	}
	assert_int_equal(access(at(&p, "two"), F_OK), -1);
	snprintf(text, sizeof(text),
	         "{\"format\":1,\"tenant\":\"acme\",\"created\":\"2026-11-22T03:27:00.123Z\",\"quota\":0,"
	         "\"user\":\"a;b\"}");
	OK(&p, sosie_io_write_file(p.io, at(&p, "acme/tenant.json"), text, strlen(text), 0640, &p.err));
	assert_int_equal(sosie_tenant_user(p.store, "acme", user, &p.err), -SOSIE_ECORRUPT);
	place_fini(&p);
}

/* --- one user
 * --------------------------------------------------------------------------------------------------- */

static void test_check_with_one_user_says_so_and_finds_open_folders(void **state)
{
	struct place p;
	(void)state;
	place_init(&p, NULL);
	check(&p, NULL, false);
	if (p.count != 1)
		fail_msg("%u findings, the last: %s of %s: %s", p.count, p.code, p.path, p.mend);
	assert_string_equal(p.code, "one-user");
	assert_string_equal(p.path, at(&p, "acme"));
	assert_int_equal(chmod(at(&p, "acme/erp/journal"), 0777), 0);
	check(&p, NULL, false);
	assert_int_equal(p.count, 2);
	assert_string_equal(p.code, "world-writable");
	assert_int_equal(unlink(at(&p, "sosie.json")), 0);
	check(&p, NULL, false);
	assert_int_equal(p.count, 3);
	assert_string_equal(p.code, "missing");
	place_fini(&p);
}

static void test_check_finds_a_user_that_is_not_there_and_a_damaged_tenant(void **state)
{
	struct place p;
	(void)state;
	place_init(&p, "sosie-nobody-here");
	check(&p, NULL, false);
	assert_int_equal(p.count, 1);
	assert_string_equal(p.code, "user-missing");
	assert_string_equal(p.path, "sosie-nobody-here");
	OK(&p, sosie_io_write_file(p.io, at(&p, "acme/tenant.json"), "{", 1, 0640, &p.err));
	check(&p, NULL, false);
	assert_int_equal(p.count, 1);
	assert_string_equal(p.code, "tenant");
	place_fini(&p);
}

static void test_check_finds_a_folder_above_that_others_may_write(void **state)
{
	struct place p;
	(void)state;
	place_init(&p, "sosie-nobody-here");
	assert_int_equal(chmod(p.dir, 0777), 0);
	check(&p, NULL, false);
	assert_int_equal(p.count, 2);
	assert_string_equal(p.code, "above");
	assert_string_equal(p.path, p.dir);
	assert_int_equal(chmod(p.dir, 01777), 0); /* as /tmp: nobody else's names can be exchanged */
	check(&p, NULL, false);
	assert_int_equal(p.count, 1);
	place_fini(&p);
}

static void test_check_of_a_tenant_that_is_not_there_fails(void **state)
{
	struct place p;
	struct sosie_check c = {.tenant = "other"};
	(void)state;
	place_init(&p, NULL);
	assert_int_equal(sosie_store_check(p.store, &c, &p.err), -SOSIE_ENOTFOUND);
	place_fini(&p);
}

/* --- two users
 * -------------------------------------------------------------------------------------------------- */

static void test_mend_sets_owners_and_modes_of_both_sides(void **state)
{
	struct place p;
	(void)state;
	if (!place_apart(&p))
		skip();
	const uid_t k = p.keeper;
	const gid_t kg = p.keeper_group;
	check(&p, "acme", true);
	if (p.count)
		fail_msg("%u are left, the last: %s of %s", p.count, p.code, p.path);
	assert_true(p.mended > 10);
	assert_is(&p, "acme", k, p.group, 0750);
	assert_is(&p, "acme/_inbox", p.user, kg, 02770);
	assert_is(&p, "acme/_inbox/notify", k, p.group, 0660);
	assert_is(&p, "acme/_inbox/erp", p.user, kg, 02770);
	assert_is(&p, "acme/_inbox/erp/00000000000000000000000000000001.0", p.user, kg, 0660);
	assert_is(&p, "acme/_outbox", k, p.group, 02750);
	assert_is(&p, "acme/_outbox/limits", k, p.group, 0640);
	assert_is(&p, "acme/_outbox/erp", k, p.group, 02750);
	assert_is(&p, "acme/_outbox/erp/head", k, p.group, 0640);
	assert_is(&p, "acme/_keys", k, p.group, 02750);
	assert_is(&p, "acme/_keys/0123456789abcdef.json", k, p.group, 0640);
	assert_is(&p, "acme/erp", k, kg, 0700);
	check(&p, NULL, true); /* sosie.json was root's */
	expect_clean(&p);
	check(&p, NULL, true);
	assert_int_equal(p.mended, 0);
	place_fini(&p);
}

static void fault_mode(struct place *p, const char *name, mode_t mode)
{
	assert_int_equal(chmod(at(p, name), mode), 0);
}

/* Each fault alone is found as what it is, and gone after the command that is named. */
static void test_check_names_each_wrong_mode_and_how_to_mend_it(void **state)
{
	static const struct {
		const char *name;
		mode_t mode;
		const char *code;
	} faults[] = {{"", 0733, "world-writable"},
	              {"", 0700, "mode"},
	              {"sosie.json", 0600, "mode"},
	              {"sosie.json", 0664, "group-writable"},
	              {"acme", 0755, "open"},
	              {"acme/tenant.json", 0644, "open"},
	              {"acme/_inbox", 0770, "setgid"},
	              {"acme/_inbox", 02777, "world-writable"},
	              {"acme/_inbox/notify", 0600, "mode"},
	              {"acme/_inbox/erp", 02700, "mode"},
	              {"acme/_inbox/erp/00000000000000000000000000000001.0", 0600, "mode"},
	              {"acme/_outbox", 02770, "group-writable"},
	              {"acme/_outbox/erp", 0750, "setgid"},
	              {"acme/_outbox/erp/head", 0644, "open"},
	              {"acme/_outbox/limits", 0660, "group-writable"},
	              {"acme/_keys", 02755, "open"},
	              {"acme/erp", 0710, "open"},
	              {"acme/erp/journal", 0770, "group-writable"},
	              {"acme/erp/generations/1", 0777, "world-writable"},
	              {"acme/erp/generations/1/erp.raw", 0666, "world-writable"},
	              {"acme/erp/head/erp.raw", 0620, "group-writable"}};
	struct place p;
	(void)state;
	if (!place_apart(&p))
		skip();
	check(&p, NULL, true);
	for (size_t i = 0; i < sizeof(faults) / sizeof(faults[0]); i++) {
		char path[512];
		snprintf(path, sizeof(path), "%s%s%s", p.store_path, faults[i].name[0] ? "/" : "",
		         faults[i].name);
		expect_clean(&p);
		fault_mode(&p, faults[i].name, faults[i].mode);
		check(&p, NULL, false);
		if (p.count != 1 || strcmp(p.code, faults[i].code) != 0 || strcmp(p.path, path) != 0)
			fail_msg("%s with mode %04o: %u findings, %s of %s", faults[i].name, faults[i].mode,
			         p.count, p.code, p.path);
		assert_int_equal(system(p.mend), 0);
	}
	expect_clean(&p);
	place_fini(&p);
}

static void test_check_finds_foreign_owners_and_groups(void **state)
{
	static const char *const names[] = {"acme",
	                                    "acme/_inbox",
	                                    "acme/_inbox/erp",
	                                    "acme/_inbox/notify",
	                                    "acme/_outbox/erp/head",
	                                    "acme/_keys",
	                                    "acme/erp",
	                                    "acme/erp/journal/1.seg",
	                                    "acme/erp/generations/1/erp.raw"};
	struct place p;
	struct stat st;
	(void)state;
	if (!place_apart(&p))
		skip();
	check(&p, NULL, true);
	for (size_t i = 0; i < sizeof(names) / sizeof(names[0]); i++) {
		assert_int_equal(lstat(at(&p, names[i]), &st), 0);
		assert_int_equal(chown(at(&p, names[i]), 12345, st.st_gid), 0);
		assert_int_equal(chmod(at(&p, names[i]), st.st_mode & 07777), 0);
		check(&p, NULL, true); /* of somebody unknown: told, not taken */
		assert_int_equal(p.count, 1);
		assert_string_equal(p.code, "owner");
		assert_string_equal(p.path, at(&p, names[i]));
		assert_int_equal(system(p.mend), 0);
		expect_clean(&p);
	}
	assert_int_equal(chown(at(&p, "acme/_outbox"), p.keeper, p.keeper_group), 0);
	check(&p, NULL, false);
	assert_int_equal(p.count, 1);
	assert_string_equal(p.code, "group");
	check(&p, NULL, true);
	expect_clean(&p);
	place_fini(&p);
}

static void test_check_finds_links_and_other_kinds(void **state)
{
	struct place p;
	(void)state;
	if (!place_apart(&p))
		skip();
	check(&p, NULL, true);
	assert_int_equal(link(at(&p, "acme/erp/generations/1/erp.raw"), at(&p, "acme/erp/head/other.raw")),
	                 0);
	check(&p, NULL, true);
	assert_int_equal(p.count, 2); /* by both names */
	assert_string_equal(p.code, "links");
	assert_int_equal(unlink(at(&p, "acme/erp/head/other.raw")), 0);
	assert_int_equal(symlink("/etc", at(&p, "acme/_inbox/db")), 0);
	check(&p, NULL, true);
	assert_int_equal(p.count, 1);
	assert_string_equal(p.code, "symlink");
	assert_int_equal(unlink(at(&p, "acme/_inbox/db")), 0);
	assert_int_equal(symlink("/etc", at(&p, "acme/db")), 0);
	check(&p, NULL, true);
	assert_int_equal(p.count, 1);
	assert_string_equal(p.code, "symlink");
	assert_int_equal(unlink(at(&p, "acme/db")), 0);
	assert_int_equal(mkfifo(at(&p, "acme/_outbox/erp/pipe"), 0640), 0);
	check(&p, NULL, true);
	assert_int_equal(p.count, 1);
	assert_string_equal(p.code, "kind");
	assert_int_equal(unlink(at(&p, "acme/_outbox/erp/pipe")), 0);
	assert_int_equal(unlink(at(&p, "acme/_inbox/notify")), 0);
	check(&p, NULL, false);
	assert_int_equal(p.count, 1);
	assert_string_equal(p.code, "missing");
	check(&p, NULL, true);
	assert_int_equal(p.count, 0);
	assert_is(&p, "acme/_inbox/notify", p.keeper, p.group, 0660);
	expect_clean(&p);
	place_fini(&p);
}

/* Whoever has taken a receiver over puts other people's files into its inbox and waits for root. */
static void test_mend_never_gives_away_what_a_link_leads_to(void **state)
{
	struct place p;
	struct stat st;
	char precious[96];
	(void)state;
	if (!place_apart(&p))
		skip();
	check(&p, NULL, true);
	snprintf(precious, sizeof(precious), "%s/precious", p.dir);
	FILE *f = fopen(precious, "w");
	assert_non_null(f);
	assert_int_equal(fclose(f), 0);
	assert_int_equal(chmod(precious, 0600), 0);
	assert_int_equal(link(precious, at(&p, "acme/_inbox/erp/00000000000000000000000000000002.0")), 0);
	assert_int_equal(symlink(precious, at(&p, "acme/_inbox/erp/00000000000000000000000000000003.0")), 0);
	check(&p, NULL, true);
	assert_true(p.count >= 2);
	assert_int_equal(p.mended, 0);
	assert_int_equal(stat(precious, &st), 0);
	assert_int_equal(st.st_uid, 0);
	assert_int_equal(st.st_mode & 07777, 0600);
	place_fini(&p);
}

/* The bytes of an access list as the kernel takes them (acl(5); linux/posix_acl_xattr.h): 12345 may all. */
static void test_check_finds_access_lists(void **state)
{
	static const uint8_t list[] = {2,    0, 0, 0,                          /* version */
	                               1,    0, 7, 0, 0xff, 0xff, 0xff, 0xff,  /* owner */
	                               2,    0, 7, 0, 0x39, 0x30, 0,    0,     /* user */
	                               4,    0, 0, 0, 0xff, 0xff, 0xff, 0xff,  /* group */
	                               0x10, 0, 7, 0, 0xff, 0xff, 0xff, 0xff,  /* mask */
	                               0x20, 0, 0, 0, 0xff, 0xff, 0xff, 0xff}; /* others */
	struct place p;
	(void)state;
	if (!place_apart(&p))
		skip();
	check(&p, NULL, true);
	if (setxattr(at(&p, "acme/erp/chain"), "system.posix_acl_access", list, sizeof(list), 0) != 0) {
		printf("no access lists below /tmp\n");
		place_fini(&p);
		skip();
	}
	assert_int_equal(setxattr(at(&p, "acme/_inbox"), "system.posix_acl_default", list, sizeof(list), 0),
	                 0);
	check(&p, NULL, false);
	assert_int_equal(p.count, 3); /* the mask shows as the group's permissions */
	assert_int_equal(p.acls, 2);
	check(&p, NULL, true);
	assert_int_equal(p.mended, 3);
	expect_clean(&p);
	place_fini(&p);
}

static void test_check_finds_receivers_that_are_the_keeper(void **state)
{
	struct place p;
	(void)state;
	if (!place_apart(&p))
		skip();
	/* The keeper is who owns the store's folder. */
	assert_int_equal(chown(p.store_path, p.user, p.group), 0);
	check(&p, NULL, true);
	assert_int_equal(p.count, 1);
	assert_string_equal(p.code, "one-user");
	place_fini(&p);
}

/* --- below
 * ------------------------------------------------------------------------------------------------------ */

/* What lies in the outbox is the receivers' by its folder's setgid, which making it must not lose. */
static void test_folder_made_below_setgid_keeps_it_under_any_umask(void **state)
{
	static const mode_t masks[] = {0, 0022, 0027, 0077};
	struct place p;
	struct stat st;
	(void)state;
	place_init(&p, NULL);
	assert_int_equal(chmod(at(&p, "acme/_outbox"), 02750), 0);
	for (size_t i = 0; i < sizeof(masks) / sizeof(masks[0]); i++) {
		umask(masks[i]);
		OK(&p, sosie_io_ensure_dir(p.io, at(&p, "acme/_outbox/db"), 0750, &p.err));
		assert_int_equal(stat(at(&p, "acme/_outbox/db"), &st), 0);
		assert_int_equal(st.st_mode & 07777, 02750);
		assert_int_equal(rmdir(at(&p, "acme/_outbox/db")), 0);
	}
	umask(0022);
	place_fini(&p);
}

static void assert_sim_mode(struct lab *l, const char *path, uint32_t mode)
{
	struct sosie_stat st;
	OK(l, sosie_io_stat(l->io, path, &st, &l->err));
	if (st.mode != mode)
		fail_msg("%s has mode %04o, meant is %04o", path, st.mode, mode);
}

/* The simulated disk knows no umask: what the engine asks for is what there is. */
static void test_what_the_keeper_makes_is_closed_to_others(void **state)
{
	static const char key[] = "ssh-ed25519 "
	                          "AAAAC3NzaC1lZDI1NTE5AAAAIAABAgMEBQYHCAkKCwwNDg8QERITFBUWFxgZGhscHR4f x";
	const struct change first[] = {{0, 0, 4, "data"}};
	struct sosie_key_info info;
	struct make_upload u;
	struct lab l;
	char path[512], id[33];
	(void)state;
	lab_init(&l, 64u << 20, 0, true);
	OK(&l, sosie_keeper_claim(l.store, &l.err));
	OK(&l, sosie_key_add(l.store, "acme", key, sizeof(key) - 1, SOSIE_KEY_SSH, NULL, 0, &info, &l.err));
	lab_accept(&l);
	model_add(&l.model, "root", 8192);
	lab_point_as(&l, first, 1, MAKE_DATA, &u);
	assert_sim_mode(&l, "/s/keeper.lock", 0640);
	assert_sim_mode(&l, "/s/acme", 0750);
	assert_sim_mode(&l, "/s/acme/tenant.json", 0640);
	assert_sim_mode(&l, "/s/acme/_outbox", 0750);
	assert_sim_mode(&l, "/s/acme/_outbox/limits", 0640);
	assert_sim_mode(&l, "/s/acme/_outbox/erp", 0750);
	assert_sim_mode(&l, "/s/acme/_outbox/erp/head", 0640);
	assert_sim_mode(&l, "/s/acme/_keys", 0750);
	assert_sim_mode(&l, "/s/acme/erp", 0700);
	sosie_hex(id, u.id.b, sizeof(u.id.b));
	snprintf(path, sizeof(path), "/s/acme/_outbox/erp/%s.verdict", id);
	assert_sim_mode(&l, path, 0640);
	snprintf(path, sizeof(path), "/s/acme/_keys/%s.json", info.id);
	assert_sim_mode(&l, path, 0640);
	lab_fini(&l);
}

static void test_quote_makes_one_word_of_any_path(void **state)
{
	static const struct {
		const char *path, *quoted;
	} cases[] = {{"/srv/sosie/store", "/srv/sosie/store"},
	             {"/srv/a b", "'/srv/a b'"},
	             {"/srv/$(x);y", "'/srv/$(x);y'"},
	             {"/it's", "'/it'\\''s'"}};
	char dst[2 * STORE_PATH], longest[STORE_PATH];
	(void)state;
	for (size_t i = 0; i < sizeof(cases) / sizeof(cases[0]); i++)
		assert_string_equal(door_quote(dst, cases[i].path), cases[i].quoted);
	memset(longest, '\'', sizeof(longest));
	longest[sizeof(longest) - 1] = '\0';
	assert_true(strlen(door_quote(dst, longest)) < sizeof(dst));
}

int main(void)
{
	const struct CMUnitTest tests[] = {
	        cmocka_unit_test(test_tenant_user_is_kept_and_never_exchanged),
	        cmocka_unit_test(test_tenant_user_with_a_bad_name_is_refused),
	        cmocka_unit_test(test_check_with_one_user_says_so_and_finds_open_folders),
	        cmocka_unit_test(test_check_finds_a_user_that_is_not_there_and_a_damaged_tenant),
	        cmocka_unit_test(test_check_finds_a_folder_above_that_others_may_write),
	        cmocka_unit_test(test_check_of_a_tenant_that_is_not_there_fails),
	        cmocka_unit_test(test_mend_sets_owners_and_modes_of_both_sides),
	        cmocka_unit_test(test_check_names_each_wrong_mode_and_how_to_mend_it),
	        cmocka_unit_test(test_check_finds_foreign_owners_and_groups),
	        cmocka_unit_test(test_check_finds_links_and_other_kinds),
	        cmocka_unit_test(test_mend_never_gives_away_what_a_link_leads_to),
	        cmocka_unit_test(test_check_finds_access_lists),
	        cmocka_unit_test(test_check_finds_receivers_that_are_the_keeper),
	        cmocka_unit_test(test_folder_made_below_setgid_keeps_it_under_any_umask),
	        cmocka_unit_test(test_what_the_keeper_makes_is_closed_to_others),
	        cmocka_unit_test(test_quote_makes_one_word_of_any_path),
	};
	return cmocka_run_group_tests_name("door", tests, NULL, NULL);
}
