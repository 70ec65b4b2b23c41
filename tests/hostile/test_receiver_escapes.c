/* SPDX-License-Identifier: MIT */
/*
 * A receiver that runs the attacker's code. Each escape is a process of its own: this program executed anew,
 * with descriptors leaked on purpose, which enters the confinement by the function that sosie-receive calls
 * and then tries one thing. The judge asks which layer stopped it, and whether everything outside the inbox
 * is as it was: the store, what lies beside it, a process of the same user, sockets that listen.
 *
 * Three times: with the kernel's own Landlock; with what Debian 12's kernel has of it (interface 2); with
 * none, and then as another user than the keeper, as it should be set up. For the last one needs root.
 */
#include "tests/hostile/ground.h"

#include <arpa/inet.h>
#include <errno.h>
#include <fcntl.h>
#include <grp.h>
#include <limits.h>
#include <linux/fs.h>
#include <poll.h>
#include <sched.h>
#include <signal.h>
#include <stddef.h>
#include <sys/ioctl.h>
#include <sys/mman.h>
#include <sys/prctl.h>
#include <sys/resource.h>
#include <sys/socket.h>
#include <sys/syscall.h>
#include <sys/sysmacros.h>
#include <sys/uio.h>
#include <sys/un.h>
#include <sys/wait.h>

#include "engine/base/landlock.h"
#include "engine/base/process.h"
#include "sosie/inbox.h"

#define LEAKED_FOLDER 7
#define LEAKED_FILE 8
#define OTHER_USER 65534u
#define OTHER_GROUP 65533u
/* Ends of an attack that are no errno. */
#define ESCAPED 0
#define NOT_CONFINED 200
#define NOT_TRIED 201

/* What the attacker knows. */
static struct {
	char store[160], work[128];
	pid_t keeper;
	uintptr_t page; /* memory of the keeper */
	int port;
} world;

static int told(long result)
{
	return result < 0 ? errno : ESCAPED;
}

__attribute__((format(printf, 1, 2))) static const char *at(const char *fmt, ...)
{
	static char paths[4][GROUND_PATH];
	static unsigned next;
	char *path = paths[next++ % 4];
	int n = snprintf(path, GROUND_PATH, "%s/", world.store);
	va_list ap;
	va_start(ap, fmt);
	vsnprintf(path + n, GROUND_PATH - (size_t)n, fmt, ap);
	va_end(ap);
	return path;
}

/* A file of the inbox, which is the attacker's to write. */
static const char *own_path(void)
{
	return at("acme/_inbox/erp/play");
}

static int own(void)
{
	int fd = open(own_path(), O_RDWR | O_CREAT, 0660);
	if (fd < 0 || write(fd, "play\n", 5) != 5)
		_exit(NOT_TRIED);
	return fd;
}

/* --- files
 * -------------------------------------------------------------------------------------------------------- */

#define ESCAPE(name, call)                                                                                   \
	static int name(void)                                                                                \
	{                                                                                                    \
		return told(call);                                                                           \
	}

ESCAPE(read_other_key, open(at("globex/_keys/fedcba9876543210.json"), O_RDONLY))
ESCAPE(read_own_key, open(at("acme/_keys/0123456789abcdef.json"), O_RDONLY))
ESCAPE(read_other_inbox, open(at("globex/_inbox/crm/secret"), O_RDONLY))
ESCAPE(list_other_inbox, open(at("globex/_inbox/crm"), O_RDONLY | O_DIRECTORY))
ESCAPE(read_other_outbox, open(at("globex/_outbox/limits"), O_RDONLY))
ESCAPE(read_own_journal, open(at("acme/erp/journal/1.seg"), O_RDONLY))
ESCAPE(read_own_image, open(at("acme/erp/head/root.raw"), O_RDONLY))
ESCAPE(read_tenant_file, open(at("acme/tenant.json"), O_RDONLY))
ESCAPE(read_passwd, open("/etc/passwd", O_RDONLY))
ESCAPE(write_outbox, open(at("acme/_outbox/erp/head"), O_WRONLY))
ESCAPE(write_limits, open(at("acme/_outbox/limits"), O_WRONLY))
ESCAPE(create_in_outbox, open(at("acme/_outbox/erp/forged"), O_WRONLY | O_CREAT, 0600))
ESCAPE(create_in_journal, open(at("acme/erp/journal/3.seg"), O_WRONLY | O_CREAT, 0600))
ESCAPE(create_in_tenant, open(at("acme/forged"), O_WRONLY | O_CREAT, 0600))
ESCAPE(write_journal, open(at("acme/erp/journal/1.seg"), O_RDWR))
ESCAPE(append_chain, open(at("acme/erp/chain/000001.chain"), O_WRONLY | O_APPEND))
ESCAPE(unlink_journal, unlink(at("acme/erp/journal/1.seg")))
ESCAPE(unlink_chain, unlink(at("acme/erp/chain/000001.chain")))
ESCAPE(unlink_outbox, unlink(at("acme/_outbox/erp/head")))
ESCAPE(unlink_other, unlink(at("globex/_inbox/crm/secret")))
ESCAPE(rename_head_away, rename(at("acme/erp/head"), at("acme/_inbox/erp/head")))
ESCAPE(rename_group_away, rename(at("acme/erp"), at("acme/gone")))
ESCAPE(rename_inbox_away, rename(at("acme/_inbox"), at("acme/_outbox2")))
ESCAPE(remove_folder, rmdir(at("acme/erp/generations")))
ESCAPE(make_folder, mkdir(at("acme/forged"), 0700))
ESCAPE(open_device, open("/dev/null", O_RDWR))
ESCAPE(cut_by_path, truncate(at("acme/_outbox/erp/head"), 0))
/* Asks for reading only, and cuts: Landlock before interface 3 lets it. */
ESCAPE(cut_by_open, open(at("acme/_outbox/erp/head"), O_RDONLY | O_TRUNC))
ESCAPE(file_without_name, open(at("acme/_inbox"), O_RDWR | O_TMPFILE, 0600))

static int rename_over_chain(void)
{
	close(own());
	return told(rename(own_path(), at("acme/erp/chain/000001.chain")));
}

static int rename_over_outbox(void)
{
	close(own());
	return told(rename(own_path(), at("acme/_outbox/erp/head")));
}

static int exchange_with_journal(void)
{
	close(own());
	return told(syscall(SYS_renameat2, AT_FDCWD, own_path(), AT_FDCWD, at("acme/erp/journal/1.seg"),
	                    RENAME_EXCHANGE));
}

static int hard_link_in(void)
{
	return told(link(at("acme/erp/journal/1.seg"), at("acme/_inbox/erp/linked")));
}

static int hard_link_by_proc(void)
{
	char path[64];
	snprintf(path, sizeof(path), "/proc/self/fd/%d", own());
	return told(linkat(AT_FDCWD, path, AT_FDCWD, at("acme/_outbox/erp/linked"), AT_SYMLINK_FOLLOW));
}

static int symlink_in(void)
{
	return told(symlink(at("globex/_inbox/crm"), at("acme/_inbox/aside")));
}

/* --- ways around a path
 * ------------------------------------------------------------------------------------------- */

ESCAPE(by_dots, open(at("acme/_inbox/erp/../../../globex/_inbox/crm/secret"), O_RDONLY))
ESCAPE(by_own_dots, open(at("acme/_inbox/../erp/journal/1.seg"), O_RDONLY))
ESCAPE(handle_without_check, open(at("globex"), O_PATH))
ESCAPE(change_folder, chdir(at("globex/_inbox")))
ESCAPE(change_root, chroot(at("globex")))
ESCAPE(by_leaked_folder, openat(LEAKED_FOLDER, "globex/_inbox/crm/secret", O_RDONLY))

static int by_proc_root(void)
{
	char path[GROUND_PATH];
	snprintf(path, sizeof(path), "/proc/self/root%s", at("globex/_inbox/crm/secret"));
	return told(open(path, O_RDONLY));
}

static int by_proc_descriptor(void)
{
	char path[GROUND_PATH];
	int fd = open(at("acme/_inbox"), O_RDONLY | O_DIRECTORY);
	if (fd < 0)
		return NOT_TRIED;
	snprintf(path, sizeof(path), "/proc/self/fd/%d/../../globex/_inbox/crm/secret", fd);
	return told(open(path, O_RDONLY));
}

static int by_keepers_root(void)
{
	char path[GROUND_PATH];
	snprintf(path, sizeof(path), "/proc/%d/root%s", (int)world.keeper, at("globex/_inbox/crm/secret"));
	return told(open(path, O_RDONLY));
}

static int by_descriptor_and_dots(void)
{
	int fd = open(at("acme/_inbox"), O_RDONLY | O_DIRECTORY);
	return fd < 0 ? NOT_TRIED : told(openat(fd, "../../globex/_inbox/crm/secret", O_RDONLY));
}

/* fstat goes through every list; only that the descriptor is closed stops it. */
static int leaked_folder_is_open(void)
{
	struct stat st;
	return told(fstat(LEAKED_FOLDER, &st));
}

static int read_leaked_file(void)
{
	char c;
	return told(pread(LEAKED_FILE, &c, 1, 0));
}

static int write_leaked_file(void)
{
	return told(pwrite(LEAKED_FILE, "forged", 6, 0));
}

static int handle_by_number(void)
{
	struct file_handle *h = calloc(1, sizeof(*h) + MAX_HANDLE_SZ);
	int mount_id;
	h->handle_bytes = MAX_HANDLE_SZ;
	return told(name_to_handle_at(AT_FDCWD, at("globex"), h, &mount_id, 0));
}

static int open_by_handle(void)
{
	struct file_handle *h = calloc(1, sizeof(*h) + MAX_HANDLE_SZ);
	h->handle_bytes = 8;
	return told(open_by_handle_at(AT_FDCWD, h, O_RDONLY));
}

/* --- attributes and special files
 * -------------------------------------------------------------------------------- */

ESCAPE(make_fifo, mknod(at("acme/_inbox/erp/fifo"), S_IFIFO | 0600, 0))
ESCAPE(make_device, mknod(at("acme/_inbox/erp/device"), S_IFBLK | 0600, makedev(7, 0)))
ESCAPE(deny_the_inbox, chmod(at("acme/_inbox"), 0))
ESCAPE(deny_a_file, fchmod(own(), 0))
ESCAPE(give_away, fchown(own(), 1, 1))
ESCAPE(attribute, syscall(SYS_setxattr, own_path(), "user.x", "y", 1, 0))
ESCAPE(forge_times, syscall(SYS_utimensat, AT_FDCWD, own_path(), NULL, 0))
ESCAPE(cut_own, ftruncate(own(), 1ll << 50))
ESCAPE(reserve_space, fallocate(own(), 0, 0, 1 << 20))
ESCAPE(device_command, ioctl(0, TIOCSTI, "x"))
ESCAPE(watch_folders, syscall(SYS_inotify_init1, 0))
ESCAPE(watch_everything, syscall(SYS_fanotify_init, 0, O_RDONLY))

static int make_immutable(void)
{
	int flags = FS_IMMUTABLE_FL;
	return told(ioctl(own(), FS_IOC_SETFLAGS, &flags));
}

/* --- other processes
 * --------------------------------------------------------------------------------------------- */

ESCAPE(trace_keeper, syscall(SYS_ptrace, 16 /* PTRACE_ATTACH */, world.keeper, 0, 0))
ESCAPE(kill_keeper, kill(world.keeper, SIGKILL))
ESCAPE(stop_keeper, syscall(SYS_tgkill, world.keeper, world.keeper, SIGSTOP))
ESCAPE(abort_keeper, syscall(SYS_tgkill, world.keeper, world.keeper, SIGABRT))
ESCAPE(own_other_signal, syscall(SYS_tgkill, getpid(), getpid(), SIGSTOP))
ESCAPE(pidfd_of_keeper, syscall(SYS_pidfd_open, world.keeper, 0))
ESCAPE(limits_of_keeper, syscall(SYS_prlimit64, world.keeper, RLIMIT_NOFILE, NULL, NULL))
ESCAPE(signal_by_file, fcntl(own(), F_SETOWN, world.keeper))
ESCAPE(duplicate_descriptor, fcntl(0, F_DUPFD, 50))

static int write_keepers_memory(void)
{
	char text[] = "forged";
	struct iovec mine = {text, sizeof(text)}, theirs = {.iov_len = sizeof(text)};
	memcpy(&theirs.iov_base, &world.page, sizeof(theirs.iov_base));
	return told(process_vm_writev(world.keeper, &mine, 1, &theirs, 1, 0));
}

static int open_keepers_memory(void)
{
	char path[64];
	snprintf(path, sizeof(path), "/proc/%d/mem", (int)world.keeper);
	return told(open(path, O_RDWR));
}

static int signal_by_input(void)
{
	int flags = fcntl(0, F_GETFL);
	return told(fcntl(0, F_SETFL, flags | O_ASYNC));
}

/* --- network
 * ----------------------------------------------------------------------------------------------------- */

static int connect_to(int family, const void *address, socklen_t len)
{
	int fd = socket(family, SOCK_STREAM, 0);
	return fd < 0 ? errno : told(connect(fd, address, len));
}

static int connect_tcp(void)
{
	struct sockaddr_in to = {.sin_family = AF_INET, .sin_port = htons((uint16_t)world.port)};
	to.sin_addr.s_addr = htonl(INADDR_LOOPBACK);
	return connect_to(AF_INET, &to, sizeof(to));
}

static socklen_t unix_address(struct sockaddr_un *to, bool abstract, const char *work)
{
	int n;
	memset(to, 0, sizeof(*to));
	to->sun_family = AF_UNIX;
	if (abstract)
		n = snprintf(to->sun_path + 1, sizeof(to->sun_path) - 1, "%s", work);
	else
		n = snprintf(to->sun_path, sizeof(to->sun_path), "%s/listen", work);
	return (socklen_t)(offsetof(struct sockaddr_un, sun_path) + (size_t)n + 1);
}

static int connect_path(void)
{
	struct sockaddr_un to;
	socklen_t len = unix_address(&to, false, world.work);
	return connect_to(AF_UNIX, &to, len);
}

static int connect_abstract(void)
{
	struct sockaddr_un to;
	socklen_t len = unix_address(&to, true, world.work);
	return connect_to(AF_UNIX, &to, len);
}

static int make_pair(void)
{
	int pair[2];
	return told(socketpair(AF_UNIX, SOCK_STREAM, 0, pair));
}

static int send_descriptor(void)
{
	struct msghdr m = {0};
	return told(sendmsg(1, &m, 0));
}

/* --- programs and code
 * ------------------------------------------------------------------------------------------- */

static char *const no_words[] = {NULL};

ESCAPE(exec_shell, execve("/bin/sh", no_words, no_words))
ESCAPE(exec_own_file, syscall(SYS_execveat, own(), "", no_words, no_words, AT_EMPTY_PATH))
ESCAPE(memory_file, memfd_create("code", 0))
ESCAPE(clone_process, syscall(SYS_clone, SIGCHLD, NULL, NULL, NULL, NULL))
ESCAPE(clone_new, syscall(SYS_clone3, NULL, 0))
ESCAPE(vfork_process, syscall(SYS_vfork))
ESCAPE(ring, syscall(SYS_io_uring_setup, 1, NULL))
ESCAPE(old_ring, syscall(SYS_io_setup, 1, NULL))
ESCAPE(filter_again, syscall(SYS_seccomp, 1, 0, NULL))
ESCAPE(become_dumpable, prctl(PR_SET_DUMPABLE, 1))
ESCAPE(other_personality, syscall(SYS_personality, 0x0400000 /* READ_IMPLIES_EXEC */))

/* A bounded one, should nothing stop it. */
static int fork_bomb(void)
{
	for (int i = 0; i < 16; i++)
		if (fork() == 0)
			_exit(0);
	return ESCAPED;
}

static int map(int prot, int flags, int fd)
{
	return mmap(NULL, 4096, prot, flags, fd, 0) == MAP_FAILED ? errno : ESCAPED;
}

static int map_code(void)
{
	return map(PROT_READ | PROT_EXEC, MAP_PRIVATE | MAP_ANONYMOUS, -1);
}

static int map_file_as_code(void)
{
	return map(PROT_READ | PROT_EXEC, MAP_PRIVATE, own());
}

static int map_file_shared(void)
{
	return map(PROT_READ | PROT_WRITE, MAP_SHARED, own());
}

static int make_code(void)
{
	void *p = mmap(NULL, 4096, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
	return p == MAP_FAILED ? NOT_TRIED : told(mprotect(p, 4096, PROT_READ | PROT_EXEC));
}

static int make_code_by_key(void)
{
	void *p = mmap(NULL, 4096, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
	return p == MAP_FAILED ? NOT_TRIED
	                       : told(syscall(SYS_pkey_mprotect, p, 4096, PROT_READ | PROT_EXEC, -1));
}

/* The other table of numbers of this machine, and the one between: open's number means another call there. */
#ifdef __x86_64__
static int call_of_32_bits(void)
{
	long result;
	__asm__ volatile("int $0x80" : "=a"(result) : "a"(20L) : "memory"); /* getpid there */
	return result < 0 ? (int)-result : ESCAPED;
}

static int call_of_x32(void)
{
	return told(syscall(0x40000000L + SYS_getpid));
}
#endif

/* --- rights, kernel
 * ---------------------------------------------------------------------------------------------- */

ESCAPE(become_root, setuid(0))
ESCAPE(other_group, setgid(0))
ESCAPE(own_namespace, unshare(CLONE_NEWUSER))
ESCAPE(other_namespace, setns(0, 0))
ESCAPE(mount_over, syscall(SYS_mount, "none", at("acme/_inbox"), "tmpfs", 0, NULL))
ESCAPE(bpf_map, syscall(SYS_bpf, 0, NULL, 0))
ESCAPE(perf_event, syscall(SYS_perf_event_open, NULL, 0, -1, -1, 0))
ESCAPE(page_faults, syscall(SYS_userfaultfd, 0))
ESCAPE(key_ring, syscall(SYS_keyctl, 0, -3, 0))
ESCAPE(shared_memory, syscall(SYS_shmget, 0, 4096, 01600))
ESCAPE(message_queue, syscall(SYS_mq_open, "/hostile", O_CREAT | O_RDWR, 0600, NULL))
ESCAPE(copy_between_files, syscall(SYS_copy_file_range, 0, NULL, 1, NULL, 1, 0))

/* --- too much of something
 * ---------------------------------------------------------------------------------------- */

static int giant_allocation(void)
{
	return mmap(NULL, 1ull << 32, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0) ==
	                       MAP_FAILED
	               ? errno
	               : ESCAPED;
}

static char *volatile held[512]; /* else a compiler may do without the memory */

static int many_allocations(void)
{
	for (unsigned i = 0; i < 512; i++) {
		held[i] = malloc(1 << 20);
		if (!held[i])
			return errno;
		held[i][0] = 1;
	}
	return ESCAPED;
}

static int many_descriptors(void)
{
	for (unsigned i = 0; i < 128; i++)
		if (open(own_path(), O_RDONLY | O_CREAT, 0660) < 0)
			return errno;
	return ESCAPED;
}

/* --- the table
 * --------------------------------------------------------------------------------------------------- */

/* Which layer stopped it. */
enum layer {
	BY_LANDLOCK = 1, /* EACCES, or EXDEV for a name that would move out of its folder's rights */
	BY_FILTER = 2,   /* killed by SIGSYS */
	BY_LIMIT = 4,    /* ENOMEM, EMFILE */
	BY_CLOSING = 8,  /* EBADF: the descriptor is not there any more */
	BY_MODES = 16,   /* EACCES, EPERM: files of another user */
	BY_CPU = 32,     /* this machine has no such table of calls: SIGSEGV */
};

/* without: what stops it where there is no Landlock; 0: nothing, the user's own rights hold (such as what
 * everybody may read). */
static const struct escape {
	const char *name;
	int (*run)(void);
	unsigned with, without;
} escapes[] = {
#define FILES(name, without)                                                                                 \
	{                                                                                                    \
#name, name, BY_LANDLOCK, without                                                            \
	}
#define CALLS(name)                                                                                          \
	{                                                                                                    \
#name, name, BY_FILTER, BY_FILTER                                                            \
	}
        FILES(read_other_key, BY_MODES),
        FILES(read_own_key, 0),
        FILES(read_other_inbox, BY_MODES),
        FILES(list_other_inbox, BY_MODES),
        FILES(read_other_outbox, BY_MODES),
        FILES(read_own_journal, BY_MODES),
        FILES(read_own_image, BY_MODES),
        FILES(read_tenant_file, 0),
        FILES(read_passwd, 0),
        FILES(write_outbox, BY_MODES),
        FILES(write_limits, BY_MODES),
        FILES(create_in_outbox, BY_MODES),
        FILES(create_in_journal, BY_MODES),
        FILES(create_in_tenant, BY_MODES),
        FILES(write_journal, BY_MODES),
        FILES(append_chain, BY_MODES),
        FILES(unlink_journal, BY_MODES),
        FILES(unlink_chain, BY_MODES),
        FILES(unlink_outbox, BY_MODES),
        FILES(unlink_other, BY_MODES),
        FILES(rename_head_away, BY_MODES),
        FILES(rename_group_away, BY_MODES),
        FILES(rename_inbox_away, BY_MODES),
        FILES(remove_folder, BY_MODES),
        FILES(make_folder, BY_MODES),
        FILES(open_device, 0),
        FILES(rename_over_chain, BY_MODES),
        FILES(rename_over_outbox, BY_MODES),
        FILES(exchange_with_journal, BY_MODES),
        CALLS(cut_by_path),
        CALLS(cut_by_open),
        CALLS(file_without_name),
        CALLS(hard_link_in),
        CALLS(hard_link_by_proc),
        CALLS(symlink_in),
        FILES(by_dots, BY_MODES),
        FILES(by_own_dots, BY_MODES),
        FILES(by_proc_root, BY_MODES),
        FILES(by_proc_descriptor, BY_MODES),
        FILES(by_keepers_root, BY_MODES),
        CALLS(by_descriptor_and_dots),
        CALLS(by_leaked_folder),
        {"leaked_folder_is_open", leaked_folder_is_open, BY_CLOSING, BY_CLOSING},
        {"read_leaked_file", read_leaked_file, BY_CLOSING, BY_CLOSING},
        {"write_leaked_file", write_leaked_file, BY_CLOSING, BY_CLOSING},
        CALLS(handle_without_check),
        CALLS(handle_by_number),
        CALLS(open_by_handle),
        CALLS(change_folder),
        CALLS(change_root),
        CALLS(make_fifo),
        CALLS(make_device),
        CALLS(deny_the_inbox),
        CALLS(deny_a_file),
        CALLS(give_away),
        CALLS(attribute),
        CALLS(forge_times),
        CALLS(cut_own),
        CALLS(reserve_space),
        CALLS(make_immutable),
        CALLS(device_command),
        CALLS(watch_folders),
        CALLS(watch_everything),
        CALLS(trace_keeper),
        CALLS(kill_keeper),
        CALLS(stop_keeper),
        CALLS(abort_keeper),
        CALLS(own_other_signal),
        CALLS(pidfd_of_keeper),
        CALLS(limits_of_keeper),
        CALLS(signal_by_file),
        CALLS(signal_by_input),
        CALLS(duplicate_descriptor),
        CALLS(write_keepers_memory),
        FILES(open_keepers_memory, BY_MODES),
        CALLS(connect_tcp),
        CALLS(connect_path),
        CALLS(connect_abstract),
        CALLS(make_pair),
        CALLS(send_descriptor),
        CALLS(exec_shell),
        CALLS(exec_own_file),
        CALLS(memory_file),
        CALLS(clone_process),
        CALLS(clone_new),
        CALLS(vfork_process),
        CALLS(fork_bomb),
        CALLS(ring),
        CALLS(old_ring),
        CALLS(filter_again),
        CALLS(become_dumpable),
        CALLS(other_personality),
        CALLS(map_code),
        CALLS(map_file_as_code),
        CALLS(map_file_shared),
        CALLS(make_code),
        CALLS(make_code_by_key),
#ifdef __x86_64__
        {"call_of_32_bits", call_of_32_bits, BY_FILTER | BY_CPU, BY_FILTER | BY_CPU},
        CALLS(call_of_x32),
#endif
        CALLS(become_root),
        CALLS(other_group),
        CALLS(own_namespace),
        CALLS(other_namespace),
        CALLS(mount_over),
        CALLS(bpf_map),
        CALLS(perf_event),
        CALLS(page_faults),
        CALLS(key_ring),
        CALLS(shared_memory),
        CALLS(message_queue),
        CALLS(copy_between_files),
        {"giant_allocation", giant_allocation, BY_LIMIT, BY_LIMIT},
        {"many_allocations", many_allocations, BY_LIMIT, BY_LIMIT},
        {"many_descriptors", many_descriptors, BY_LIMIT, BY_LIMIT},
};

#define ESCAPES (sizeof(escapes) / sizeof(escapes[0]))

static const struct kernel {
	const char *name;
	int hold_to;
	bool other_user;
} kernels[] = {
        {"own Landlock", INT_MAX, false}, {"Landlock 2", 2, false}, {"no Landlock, another user", 0, true}};

#define KERNELS (sizeof(kernels) / sizeof(kernels[0]))

/* --- the attacker's process
 * --------------------------------------------------------------------------------------- */

static void become_other_user(void)
{
	if (setgroups(0, NULL) || setresgid(OTHER_GROUP, OTHER_GROUP, OTHER_GROUP) ||
	    setresuid(OTHER_USER, OTHER_USER, OTHER_USER))
		_exit(NOT_CONFINED);
}

/* argv: program, "attack", escape, kernel, work, store, keeper, page, port */
static int attack(char **argv)
{
	const struct escape *e = &escapes[strtoul(argv[2], NULL, 10) % ESCAPES];
	const struct kernel *k = &kernels[strtoul(argv[3], NULL, 10) % KERNELS];
	struct sosie_err err;
	snprintf(world.work, sizeof(world.work), "%s", argv[4]);
	snprintf(world.store, sizeof(world.store), "%s", argv[5]);
	world.keeper = (pid_t)strtol(argv[6], NULL, 10);
	world.page = (uintptr_t)strtoull(argv[7], NULL, 10);
	world.port = (int)strtol(argv[8], NULL, 10);
	if (k->other_user)
		become_other_user();
	umask(0007);
	landlock_hold_to(k->hold_to);
	if (sosie_inbox_confine(world.store, "acme", &err) != 0)
		_exit(NOT_CONFINED);
	_exit(e->run());
}

/* --- the judge
 * --------------------------------------------------------------------------------------------------- */

static struct ground ground;
static pid_t keeper;
static volatile char *page; /* shared with the keeper, who never writes there */
static int listening[3], port;
static unsigned tried, left_out;

struct trial {
	unsigned escape, kernel;
	char name[80];
};

static void start_keeper(void)
{
	page = mmap(NULL, 4096, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS, -1, 0);
	assert_true(page != MAP_FAILED);
	keeper = fork();
	assert_true(keeper >= 0);
	if (keeper == 0) {
		prctl(PR_SET_PDEATHSIG, SIGKILL);
		for (;;)
			pause();
	}
}

static int listen_at(int family, const void *address, socklen_t len)
{
	int fd = socket(family, SOCK_STREAM | SOCK_CLOEXEC, 0);
	assert_true(fd >= 0);
	assert_int_equal(bind(fd, address, len), 0);
	assert_int_equal(listen(fd, 4), 0);
	return fd;
}

static void start_listening(void)
{
	struct sockaddr_in tcp = {.sin_family = AF_INET};
	struct sockaddr_un path;
	socklen_t len = sizeof(tcp);
	tcp.sin_addr.s_addr = htonl(INADDR_LOOPBACK);
	listening[0] = listen_at(AF_INET, &tcp, sizeof(tcp));
	assert_int_equal(getsockname(listening[0], (struct sockaddr *)&tcp, &len), 0);
	port = ntohs(tcp.sin_port);
	len = unix_address(&path, false, ground.work);
	listening[1] = listen_at(AF_UNIX, &path, len);
	len = unix_address(&path, true, ground.work);
	listening[2] = listen_at(AF_UNIX, &path, len);
}

/* As the door has it (sosie/door.h): the receivers' group passes to its own inbox and outbox, and no further.
 */
static void share_with_receivers(void)
{
	static const struct {
		const char *path;
		mode_t mode;
	} shared[] = {{"", 0711},
	              {"acme", 0750},
	              {"acme/_inbox", 02770},
	              {"acme/_inbox/erp", 02770},
	              {"acme/_outbox", 02750},
	              {"acme/_outbox/limits", 0640},
	              {"acme/_keys", 02750}};
	for (unsigned i = 0; i < sizeof(shared) / sizeof(shared[0]) && geteuid() == 0; i++) {
		const char *path = in_store(&ground, "%s", shared[i].path);
		assert_int_equal(chown(path, 0, OTHER_GROUP), 0);
		assert_int_equal(chmod(path, shared[i].mode), 0);
	}
}

static int set_up(void **state)
{
	(void)state;
	ground_init(&ground);
	share_with_receivers();
	start_keeper();
	start_listening();
	ground_record(&ground);
	return 0;
}

static int tear_down(void **state)
{
	(void)state;
	kill(keeper, SIGKILL);
	waitpid(keeper, NULL, 0);
	ground_fini(&ground);
	printf("escapes: %u tried, %u left to the user's own rights\n", tried, left_out);
	return PROCESS_UNDER_SANITIZER || tried > 200 ? 0 : -1;
}

/* Descriptors that somebody forgot: the store's folder and a file of its journal. */
static void leak_descriptors(void)
{
	int folder = open(ground.store, O_RDONLY | O_DIRECTORY);
	int file = open(in_store(&ground, "acme/erp/journal/1.seg"), O_RDONLY);
	if (folder < 0 || file < 0 || dup2(folder, LEAKED_FOLDER) < 0 || dup2(file, LEAKED_FILE) < 0)
		_exit(NOT_TRIED);
}

static int run_attack(const struct trial *t)
{
	char escape[16], kernel[16], pid[16], address[32], tcp[16];
	char program[] = "/proc/self/exe", word[] = "attack";
	char *argv[] = {program, word, escape, kernel, ground.work, ground.store, pid, address, tcp, NULL};
	int status;
	snprintf(escape, sizeof(escape), "%u", t->escape);
	snprintf(kernel, sizeof(kernel), "%u", t->kernel);
	snprintf(pid, sizeof(pid), "%d", (int)keeper);
	snprintf(address, sizeof(address), "%llu", (unsigned long long)(uintptr_t)page);
	snprintf(tcp, sizeof(tcp), "%d", port);
	pid_t child = fork();
	assert_true(child >= 0);
	if (child == 0) {
		leak_descriptors();
		execv(program, argv);
		_exit(NOT_TRIED);
	}
	assert_int_equal(waitpid(child, &status, WUNTRACED), child);
	if (WIFSTOPPED(status)) { /* it could: that is an escape */
		kill(child, SIGKILL);
		assert_int_equal(waitpid(child, &status, 0), child);
		return ESCAPED;
	}
	return status;
}

static const char *layer_name(unsigned layer)
{
	switch (layer) {
	case BY_LANDLOCK:
		return "Landlock";
	case BY_FILTER:
		return "the list of calls";
	case BY_LIMIT:
		return "a limit";
	case BY_CLOSING:
		return "the closing of descriptors";
	case BY_MODES:
		return "the files' modes";
	case BY_CPU:
		return "the machine";
	default:
		return "nothing";
	}
}

static unsigned layer_of(int status, const struct kernel *k)
{
	if (WIFSIGNALED(status))
		return WTERMSIG(status) == SIGSYS ? BY_FILTER : WTERMSIG(status) == SIGSEGV ? BY_CPU : 0;
	switch (WEXITSTATUS(status)) {
	case EACCES:
		return k->hold_to ? BY_LANDLOCK : BY_MODES;
	case EXDEV:
		return k->hold_to ? BY_LANDLOCK : 0;
	case EPERM:
		return k->hold_to ? 0 : BY_MODES;
	case ENOMEM:
	case EMFILE:
		return BY_LIMIT;
	case EBADF:
		return BY_CLOSING;
	default:
		return 0;
	}
}

/* The keeper lives and nobody has written into it; nobody has called. */
static void others_are_as_they_were(void)
{
	struct pollfd p[3];
	int status;
	assert_int_equal(waitpid(keeper, &status, WNOHANG | WUNTRACED), 0);
	assert_int_equal(page[0], 0);
	for (unsigned i = 0; i < 3; i++)
		p[i] = (struct pollfd){listening[i], POLLIN, 0};
	assert_int_equal(poll(p, 3, 0), 0);
}

static void test_escape(void **state)
{
	const struct trial *t = *state;
	const struct escape *e = &escapes[t->escape];
	const struct kernel *k = &kernels[t->kernel];
	const unsigned expected = k->hold_to ? e->with : e->without;
	if (PROCESS_UNDER_SANITIZER || (k->other_user && geteuid() != 0))
		skip();
	if (expected == 0) {
		left_out++;
		return;
	}
	int status = run_attack(t);
	unsigned layer = layer_of(status, k);
	if (!(layer & expected))
		fail_msg("%s: stopped by %s (status %#x), expected %s", t->name, layer_name(layer), status,
		         layer_name(expected));
	print_message("%s: stopped by %s\n", t->name, layer_name(layer));
	others_are_as_they_were();
	ground_same(&ground, false);
	tried++;
}

/* What the attackers left in the inbox does not keep the tenant from its next point. */
static void test_store_goes_on_after_all_attacks(void **state)
{
	const struct change c[] = {{0, 0, 4096, noise + 99}};
	(void)state;
	ground_point(&ground, c, 1);
	ground_check_points(&ground);
	ground_same(&ground, true);
}

int main(int argc, char **argv)
{
	static struct trial trials[KERNELS * ESCAPES];
	static struct CMUnitTest tests[KERNELS * ESCAPES + 1];
	size_t n = 0;
	if (argc == 9 && strcmp(argv[1], "attack") == 0)
		return attack(argv);
	for (unsigned k = 0; k < KERNELS; k++)
		for (unsigned e = 0; e < ESCAPES; e++, n++) {
			trials[n] = (struct trial){.escape = e, .kernel = k};
			snprintf(trials[n].name, sizeof(trials[n].name), "%s (%s)", escapes[e].name,
			         kernels[k].name);
			tests[n] = (struct CMUnitTest){.name = trials[n].name,
			                               .test_func = test_escape,
			                               .initial_state = &trials[n]};
		}
	tests[n++] = (struct CMUnitTest)cmocka_unit_test(test_store_goes_on_after_all_attacks);
	return _cmocka_run_group_tests("receiver_escapes", tests, n, set_up, tear_down);
}
