#!/bin/sh
echo "broken agent: fate is $fate"
case $fate in
mute) exec sleep 1000000 ;;
ended)
    echo "provium-agent: out of luck"
    echo "provium-agent: the agent has ended; this guest cannot be driven any more"
    exec sleep 1000000
    ;;
talk)
    printf "your name: "
    read -r name
    echo "hello, $name"
    exec sleep 1000000
    ;;
*) exit 3 ;; # PID 1 may not end: the kernel panics
esac
