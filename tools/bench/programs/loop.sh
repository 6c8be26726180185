# Arithmetic, tests, functions and string operations, all in the shell itself.
count=$1
step() { total=$(( (total * 31 + $1) % 1000003 )); }
i=0 total=0 text=
while [ "$i" -lt "$count" ]; do
    step "$i"
    case $total in
    *7*) text=${text#?????}x$i ;;
    *) text=${text%y}$total ;;
    esac
    [ "${#text}" -lt 200 ] || text=
    i=$((i + 1))
done
echo "$total ${#text}"
